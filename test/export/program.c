/* in_c INPUTS: computes an exported network in 8 threads at once; prints the first output, and what is refused.
 *
 * INPUTS holds the image's elements, then the words'. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tagged.h"

enum { THREADS = 8, CALLS = 50 };

static tagged_model *model;
static float *image;
static int64_t *words;

/* Computes in memory of its own; null where one call differs from another. */
static void *compute(void *unused) {
  (void)unused;
  float *first = malloc(TAGGED_OUTPUT_BYTES), *next = malloc(TAGGED_OUTPUT_BYTES);
  int right = tagged_run(model, image, words, first) == TAGGED_OK;
  for (int k = 1; k < CALLS; k++)
    right = right && tagged_run(model, image, words, next) == TAGGED_OK && !memcmp(first, next, TAGGED_OUTPUT_BYTES);
  free(next);
  if (right) return first;
  free(first);
  return NULL;
}

static void say_refusal(const char *interface, const char *weights) {
  char message[512] = "";
  tagged_model *none;
  tagged_status status = tagged_prepare(&none, interface, weights, message, sizeof message);
  printf("%d %s\n", none == NULL ? (int)status : -1, message);
}

int main(int count, char **arguments) {
  const size_t shape[] = TAGGED_IMAGE_SHAPE;
  FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
  image = malloc(TAGGED_IMAGE_BYTES);
  words = malloc(TAGGED_WORDS_BYTES);
  if (file == NULL || sizeof shape / sizeof *shape != TAGGED_IMAGE_RANK ||
      fread(image, 1, TAGGED_IMAGE_BYTES, file) != TAGGED_IMAGE_BYTES ||
      fread(words, 1, TAGGED_WORDS_BYTES, file) != TAGGED_WORDS_BYTES)
    return 2;
  fclose(file);

  char message[512];
  tagged_status status = tagged_prepare(&model, TAGGED_INTERFACE, TAGGED_WEIGHTS, message, sizeof message);
  if (status != TAGGED_OK) {
    fprintf(stderr, "%s\n", message);
    return 1;
  }
  pthread_t threads[THREADS];
  float *outputs[THREADS];
  for (int k = 0; k < THREADS; k++) pthread_create(&threads[k], NULL, compute, NULL);
  for (int k = 0; k < THREADS; k++) pthread_join(threads[k], (void **)&outputs[k]);
  for (int k = 0; k < THREADS; k++)
    if (outputs[k] == NULL || memcmp(outputs[k], outputs[0], TAGGED_OUTPUT_BYTES)) return 3;
  for (size_t k = 0; k < TAGGED_OUTPUT_ELEMENTS; k++) printf("%.9g ", (double)outputs[0][k]);
  printf("\n");
  for (int k = 0; k < THREADS; k++) free(outputs[k]);

  float output[TAGGED_OUTPUT_ELEMENTS];
  words[1] = 20;
  printf("%s\n", tagged_message(tagged_run(model, image, words, output)));
  printf("%s\n", tagged_message(tagged_run(model, image, NULL, output)));
  tagged_free(model);
  tagged_free(NULL);
  say_refusal(TAGGED_INTERFACE, "/nowhere/tagged.safetensors");
  say_refusal(TAGGED_INTERFACE, arguments[1]);
  say_refusal("tagged(x)", TAGGED_WEIGHTS);
  free(image);
  free(words);
  return 0;
}
