/* {{ mark }}
 *
 * What lies between the functions of {{ name }}.h and the compiled code.
 */
#define _GNU_SOURCE
#include "{{ name }}.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
{% if features %}
#include <cpuid.h>
{% endif %}
{% if threads > 1 %}
#include <sched.h>
#include <signal.h>
#include <time.h>
{% endif %}

/* -- the compiled code: functions of an array of pointers to their arguments' values */

typedef void code(void **arguments);

{% for variant in variants %}
code {{ variant.names.prepare }}, {{ variant.names.run }};
{% endfor %}
{% if threads > 1 %}
void {{ pool_names.dispatch }}(int64_t state);
void {{ pool_names.work }}(int64_t state, int64_t thread, int32_t generation);
void {{ pool_names.spin }}(int64_t count);
{% endif %}
{% if not weights_name %}
extern const unsigned char {{ weights_symbol }}[];
{% endif %}

enum role { INPUT, OUTPUT, WEIGHTS, PACKED, SCRATCH };

struct argument {
  enum role role;
  size_t place; /* which input or output; for others the first byte in their memory */
};

enum { VARIANTS = {{ variants | length }}, PREPARE_ARGUMENTS = {{ most_prepare }}, RUN_ARGUMENTS = {{ most_run }} }; /* at most */

static const size_t weights_bytes = {{ layout.size }}, header_bytes = {{ layout.header | length }};
static const uint64_t header_fingerprint = UINT64_C({{ layout.fingerprint }});

static const struct argument arguments[] = {
{% for role, place in arguments %}
    { {{- role }}, {{ place -}} },
{% endfor %}
    {INPUT, 0}};

/* The code for one target; in the tables of all it has the features and the arguments from some place on. */
struct variant {
  char target[{{ (variants | map(attribute="target") | map("length") | max) + 1 }}];
  size_t packed_bytes, scratch_bytes;
  int features, first_feature;
  int prepare_arguments, run_arguments, first_argument; /* those of prepare, then those of run */
};

static const struct variant variants[VARIANTS] = {
{% for v in variants %}
    { {{- v.target | c_string }}, {{ v.packed_bytes }}, {{ v.scratch_bytes }}, {{ v.features | length }}, {{ v.first_feature }}, {{ v.prepare | length }}, {{ v.run | length }}, {{ v.first_argument -}} }{{ "," if not loop.last }}
{% endfor %}
};

/* Functions of the variant's number instead of pointers in the table: a library without relocations shares its pages. */
{% for which in ["prepare", "run"] %}
static code *{{ which }}_code(int variant) {
{% if variants | length > 1 %}
  switch (variant) {
{% for v in variants[1:] %}
    case {{ loop.index }}: return {{ v.names[which] }};
{% endfor %}
  }
{% else %}
  (void)variant;
{% endif %}
  return {{ variants[0].names[which] }};
}

{% endfor %}
/* -- errors */

const char *{{ name }}_message({{ name }}_status status) {
  switch (status) {
{% for status, text in statuses %}
    case {{ upper }}_{{ status }}: return {{ text | c_string }};
{% endfor %}
  }
  return "no such status";
}

__attribute__((format(printf, 4, 5)))
static {{ name }}_status fail({{ name }}_status status, char *message, size_t size, const char *format, ...) {
  if (message != NULL && size > 0) {
    va_list values;
    va_start(values, format);
    vsnprintf(message, size, format, values);
    va_end(values);
  }
  return status;
}

/* -- the processor */

{% if features %}
struct feature {
  char name[24];
  unsigned leaf, subleaf, index, bit; /* of eax, ebx, ecx, edx; of that register */
  unsigned state; /* what the system has to keep of the registers */
};

static const struct feature features[] = {
{% for feature in features %}
    { {{- feature.name | c_string }}, {{ feature.leaf }}u, {{ feature.subleaf }}, {{ ["eax", "ebx", "ecx", "edx"].index(feature.register) }}, {{ feature.bit }}, {{ feature.state -}} }{{ "," if not loop.last }}
{% endfor %}
};

static unsigned kept_state(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0)); /* volatile, or it may move ahead of the question */
  return a;
}

static const char *missing_feature(const struct variant *variant) {
  unsigned state = kept_state();
  for (int k = 0; k < variant->features; k++) {
    unsigned r[4];
    const struct feature *f = &features[variant->first_feature + k];
    if (!__get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3])) return f->name;
    if (!(r[f->index] >> f->bit & 1) || (state & f->state) != f->state) return f->name;
  }
  return NULL;
}
{% else %}
static const char *missing_feature(const struct variant *variant) {
  (void)variant;
  return NULL;
}
{% endif %}

/* The best variant that runs here{% if variants | length > 1 %}, or the one that the environment asks for{% endif %}. */
static {{ name }}_status choose(int *chosen, char *message, size_t size) {
  int first = 0, last = VARIANTS - 1;
{% if variants | length > 1 %}
  const char *asked = getenv({{ target_variable | c_string }});
  if (asked != NULL && *asked != '\0') {
    while (first < VARIANTS && strcmp(asked, variants[first].target) != 0) first++;
    if (first == VARIANTS)
      return fail({{ upper }}_BAD_PROCESSOR, message, size, "%s asks for code for %s; there is code for %s", {{ target_variable | c_string }}, asked, {{ targets | c_string }});
    last = first;
  }
{% endif %}
  const char *missing = NULL;
  for (int k = first; k <= last; k++) {
    missing = missing_feature(&variants[k]);
    if (missing == NULL) {
      *chosen = k;
      return {{ upper }}_OK;
    }
  }
  return fail({{ upper }}_BAD_PROCESSOR, message, size, "this processor, or its system, has no %s, which {% if variants | length > 1 %}even {% endif %}code for %s needs", missing, variants[last].target);
}

/* -- memory: in huge pages where the system gives them, since weights are read in long streams */

enum { HUGE_PAGE = {{ huge_page }} };

struct region {
  unsigned char *start; /* a multiple of HUGE_PAGE, except in an empty one */
  void *mapped;
  size_t size;
};

static int allocate(struct region *region, size_t bytes) {
  *region = (struct region){NULL, NULL, 0};
  if (bytes == 0) return 1;
  size_t size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
  void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return 0;
  madvise(mapped, size, MADV_HUGEPAGE); /* a kernel without them says no, which is no error */
  uintptr_t address = (uintptr_t)mapped;
  size_t skipped = (HUGE_PAGE - address % HUGE_PAGE) % HUGE_PAGE;
  *region = (struct region){(unsigned char *)mapped + skipped, mapped, size};
  return 1;
}

static void release(struct region *region) {
  if (region->mapped != NULL) munmap(region->mapped, region->size);
}

/* -- the network */

{% if threads > 1 %}
struct member {
  struct team *team;
  int64_t number;
  int32_t generation;
};

struct team {
  _Alignas({{ pool.alignment }}) unsigned char state[{{ pool.state_bytes }}];
  int64_t address; /* of the state, as the code takes it */
  int64_t numbers[{{ threads }}];
  void *rows[{{ threads }}][2 + RUN_ARGUMENTS]; /* of each thread, what the code takes */
  pthread_t workers[{{ threads - 1 }}];
  struct member members[{{ threads - 1 }}];
  pid_t process; /* that the workers belong to; 0 while there are none */
};

{% endif %}
/* What one call at a time works with. */
struct workspace {
  int variant;
{% if threads > 1 %}
  struct team team;
{% endif %}
  struct workspace *next;
  struct region scratch;
  void *values[RUN_ARGUMENTS + 1];
  void *arguments[RUN_ARGUMENTS + 1];
};

struct {{ name }}_model {
  int variant;
  const unsigned char *weights;
  int weights_mapped;
  struct region packed;
  pthread_mutex_t lock;
  struct workspace *idle; /* workspaces that no call uses */
};

static struct argument run_argument(const struct variant *variant, int number) {
  return arguments[variant->first_argument + variant->prepare_arguments + number];
}

static void *place_of(const {{ name }}_model *model, const struct region *scratch, struct argument argument) {
  switch (argument.role) {
    case WEIGHTS: return (void *)(uintptr_t)(model->weights + argument.place);
    case PACKED: return model->packed.start + argument.place;
    case SCRATCH: return scratch->start + argument.place;
    case INPUT:
    case OUTPUT: break;
  }
  return NULL; /* differs from call to call */
}

{% if threads > 1 %}
{% include "team.c" %}
{% else %}
static void set_up_team(struct workspace *space) { (void)space; }

static int execute(struct workspace *space) {
  run_code(space->variant)(space->arguments);
  return 1;
}

static void dismiss(struct workspace *space) { (void)space; }
{% endif %}

/* -- workspaces */

static struct workspace *new_workspace(const {{ name }}_model *model) {
{% if threads > 1 %}
  struct workspace *space = aligned_alloc(_Alignof(struct workspace), sizeof *space);
{% else %}
  struct workspace *space = malloc(sizeof *space);
{% endif %}
  if (space == NULL) return NULL;
  const struct variant *variant = &variants[model->variant];
  if (!allocate(&space->scratch, variant->scratch_bytes)) {
    free(space);
    return NULL;
  }
  space->variant = model->variant;
  for (int k = 0; k < variant->run_arguments; k++) {
    space->values[k] = place_of(model, &space->scratch, run_argument(variant, k));
    space->arguments[k] = &space->values[k];
  }
  set_up_team(space);
  return space;
}

static struct workspace *take_workspace({{ name }}_model *model) {
  pthread_mutex_lock(&model->lock);
  struct workspace *space = model->idle;
  if (space != NULL) model->idle = space->next;
  pthread_mutex_unlock(&model->lock);
  return space != NULL ? space : new_workspace(model);
}

static void give_back({{ name }}_model *model, struct workspace *space) {
  pthread_mutex_lock(&model->lock);
  space->next = model->idle;
  model->idle = space;
  pthread_mutex_unlock(&model->lock);
}

/* -- weights */

{% if weights_name %}
static uint64_t fingerprint(const unsigned char *bytes, size_t count) {
  uint64_t value = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
  for (size_t k = 0; k < count; k++) value = (value ^ bytes[k]) * UINT64_C(0x100000001b3);
  return value;
}

static {{ name }}_status find_weights({{ name }}_model *model, const char *path, char *message, size_t size) {
  if (path == NULL) return fail({{ upper }}_BAD_ARGUMENT, message, size, "weights is null; the path of %s is expected", {{ upper }}_WEIGHTS_NAME);
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return fail({{ upper }}_BAD_WEIGHTS, message, size, "%s cannot be opened: %s", path, strerror(errno));
  struct stat about;
  if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode) || (uint64_t)about.st_size != weights_bytes) {
    close(file);
    return fail({{ upper }}_BAD_WEIGHTS, message, size, "%s is not the file that belongs to this library: its size differs from %zu bytes", path, weights_bytes);
  }
  void *mapped = mmap(NULL, weights_bytes, PROT_READ, MAP_PRIVATE, file, 0);
  int error = errno;
  close(file);
  if (mapped == MAP_FAILED) return fail({{ upper }}_BAD_WEIGHTS, message, size, "%s cannot be mapped into memory: %s", path, strerror(error));
  if (fingerprint(mapped, header_bytes) != header_fingerprint) {
    munmap(mapped, weights_bytes);
    return fail({{ upper }}_BAD_WEIGHTS, message, size, "%s holds the weights of another network", path);
  }
  model->weights = mapped;
  model->weights_mapped = 1;
  return {{ upper }}_OK;
}
{% else %}
static {{ name }}_status find_weights({{ name }}_model *model, const char *path, char *message, size_t size) {
  (void)header_bytes, (void)header_fingerprint;
  if (path != NULL) return fail({{ upper }}_BAD_ARGUMENT, message, size, "the weights are in the library; null is expected for their path");
  model->weights = {{ weights_symbol }};
  return {{ upper }}_OK;
}
{% endif %}

/* -- what the header declares */

static {{ name }}_status pack(const {{ name }}_model *model) {
  struct region scratch;
  void *values[PREPARE_ARGUMENTS + 1], *passed[PREPARE_ARGUMENTS + 1];
  const struct variant *variant = &variants[model->variant];
  if (!allocate(&scratch, variant->scratch_bytes)) return {{ upper }}_NO_MEMORY;
  for (int k = 0; k < variant->prepare_arguments; k++) {
    values[k] = place_of(model, &scratch, arguments[variant->first_argument + k]);
    passed[k] = &values[k];
  }
  prepare_code(model->variant)(passed);
  release(&scratch);
  return {{ upper }}_OK;
}

static {{ name }}_status set_up({{ name }}_model *model, const char *weights, char *message, size_t size) {
  {{ name }}_status status = find_weights(model, weights, message, size);
  if (status != {{ upper }}_OK) return status;
  size_t packed_bytes = variants[model->variant].packed_bytes;
  if (!allocate(&model->packed, packed_bytes) || pack(model) != {{ upper }}_OK)
    return fail({{ upper }}_NO_MEMORY, message, size, "%zu bytes for the weights cannot be allocated", packed_bytes);
  /* Most of the file has been read for good. */
  if (model->weights_mapped) madvise((void *)(uintptr_t)model->weights, weights_bytes, MADV_DONTNEED);
  return {{ upper }}_OK;
}

{{ name }}_status {{ name }}_prepare({{ name }}_model **model, const char *interface, const char *weights,
    char *message, size_t size) {
  if (model == NULL) return fail({{ upper }}_BAD_ARGUMENT, message, size, "model is null");
  *model = NULL;
  if (interface == NULL) return fail({{ upper }}_BAD_ARGUMENT, message, size, "interface is null; {{ upper }}_INTERFACE is expected");
  if (strcmp(interface, {{ upper }}_INTERFACE) != 0)
    return fail({{ upper }}_BAD_INTERFACE, message, size, "the program was built for \"%s\", the library for \"%s\"", interface, {{ upper }}_INTERFACE);
  int chosen = 0;
  {{ name }}_status status = choose(&chosen, message, size);
  if (status != {{ upper }}_OK) return status;
  {{ name }}_model *made = calloc(1, sizeof *made);
  if (made == NULL || pthread_mutex_init(&made->lock, NULL) != 0) {
    free(made);
    return fail({{ upper }}_NO_MEMORY, message, size, "a model cannot be allocated");
  }
  made->variant = chosen;
  status = set_up(made, weights, message, size);
  if (status != {{ upper }}_OK) {
    {{ name }}_free(made);
    return status;
  }
  *model = made;
  return {{ upper }}_OK;
}

{% for bits in index_bits %}
static int lies_below_{{ bits }}(const int{{ bits }}_t *indices, size_t count, int64_t limit) {
  for (size_t k = 0; k < count; k++)
    if (indices[k] < 0 || indices[k] >= limit) return 0;
  return 1;
}

{% endfor %}
static {{ name }}_status {{ name }}_compute({{ name }}_model *model, const void **inputs, void **outputs) {
  struct workspace *space = take_workspace(model);
  if (space == NULL) return {{ upper }}_NO_MEMORY;
  const struct variant *variant = &variants[model->variant];
  for (int k = 0; k < variant->run_arguments; k++) {
    struct argument argument = run_argument(variant, k);
    if (argument.role == INPUT) space->values[k] = (void *)(uintptr_t)inputs[argument.place];
    if (argument.role == OUTPUT) space->values[k] = outputs[argument.place];
  }
  int executed = execute(space);
  give_back(model, space);
  return executed ? {{ upper }}_OK : {{ upper }}_NO_THREADS;
}

/* The names of inputs and outputs are the network's; others begin with an underscore here. */
{{ name }}_status {{ name }}_run({{ parameters }}) {
  if (model == NULL) return {{ upper }}_BAD_ARGUMENT;
{% for kind, port in all_ports if port.elements %}
  if ({{ port.name }} == NULL) return {{ upper }}_BAD_ARGUMENT;
{% endfor %}
{% for port in ports.inputs if port.below is not none and port.elements %}
  if (!lies_below_{{ port.dtype.itemsize * 8 }}({{ port.name }}, {{ port.elements }}, {{ port.below }})) return {{ upper }}_BAD_INDEX;
{% endfor %}
  const void *_inputs[] = { {{- (ports.inputs | map(attribute="name") | list + ["NULL"]) | join(", ") -}} };
  void *_outputs[] = { {{- (ports.outputs | map(attribute="name") | list + ["NULL"]) | join(", ") -}} };
  return {{ name }}_compute(model, _inputs, _outputs);
}

const char *{{ name }}_target(const {{ name }}_model *model) { return model != NULL ? variants[model->variant].target : ""; }

void {{ name }}_free({{ name }}_model *model) {
  if (model == NULL) return;
  while (model->idle != NULL) {
    struct workspace *space = model->idle;
    model->idle = space->next;
    dismiss(space);
    release(&space->scratch);
    free(space);
  }
  release(&model->packed);
  if (model->weights_mapped) munmap((void *)(uintptr_t)model->weights, weights_bytes);
  pthread_mutex_destroy(&model->lock);
  free(model);
}
