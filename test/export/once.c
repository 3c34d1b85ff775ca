/* once INPUT: computes an exported network of one input and one output; prints which code was chosen, and the output. */
#include <stdio.h>

#include "net.h"

int main(int count, char **arguments) {
  static float x[NET_INPUT_ELEMENTS], y[NET_OUTPUT_ELEMENTS];
  FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
  if (file == NULL || fread(x, 1, sizeof x, file) != sizeof x) return 2;
  fclose(file);
  net_model *model;
  char message[512];
  if (net_prepare(&model, NET_INTERFACE, NULL, message, sizeof message) != NET_OK) {
    printf("%s\n", message);
    return 1;
  }
  printf("%s\n", net_target(model));
  if (net_run(model, x, y) != NET_OK) return 3;
  for (size_t k = 0; k < NET_OUTPUT_ELEMENTS; k++) printf("%.9g ", (double)y[k]);
  net_free(model);
  return 0;
}
