/* {{ mark }}
 *
 * {{ name }}{{ ports }}
 *
 * Made by loopmorph {{ version }} for {{ targets }}, {{ threads }} thread{{ "s" if threads > 1 }}. Link the library; on Linux, that is all.
 */
#ifndef {{ upper }}_H
#define {{ upper }}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What this header was made for; {{ name }}_prepare compares it with what the library was made for. */
#define {{ upper }}_INTERFACE {{ interface | c_string }}

#define {{ upper }}_THREADS {{ threads }} /* that each call uses, the calling one included */
#define {{ upper }}_ALIGNMENT {{ alignment }} /* bytes: inputs and outputs may lie anywhere, and are fastest at multiples of this */
{% if weights_name %}
#define {{ upper }}_WEIGHTS_NAME {{ weights_name | c_string }}
{% endif %}

{% for kind, port in all_ports %}
/* {{ kind }} {{ port }}: elements lie densely, the last extent is innermost. */
{% set prefix = upper ~ "_" ~ port.name.upper() %}
#define {{ prefix }}_BYTES {{ port.nbytes }}
#define {{ prefix }}_ELEMENTS {{ port.elements }}
#define {{ prefix }}_RANK {{ port.shape | length }}
{% if port.shape %}
#define {{ prefix }}_SHAPE { {{- port.shape | join(", ") -}} }
{% endif %}

{% endfor %}
typedef enum {{ name }}_status {
{% for status, _ in statuses %}
  {{ upper }}_{{ status }} = {{ loop.index0 }}{{ "," if not loop.last }}
{% endfor %}
} {{ name }}_status;

/* The network with its weights. Several may exist at once; they share nothing. */
typedef struct {{ name }}_model {{ name }}_model;

/* Makes the network ready to run: reads its weights and brings them into the order in which the code reads them.
 *
 *   model      where the network goes; null if this fails
 *   interface  {{ upper }}_INTERFACE
{% if weights_name %}
 *   weights    the path of {{ weights_name }}, which is mapped into memory and must not change as long as the model lives
{% else %}
 *   weights    null: they are in the library
{% endif %}
 *   message    gets what went wrong, as one line; may be null
 *   size       bytes of message
 *
 * It refuses a processor that lacks what the code needs before it runs any of that.
{% if variants | length > 1 %}
 * Of the code for {{ targets }}, it takes the first that runs here,
 * or the one that the environment variable {{ target_variable }} names.
{% endif %}
 */
{{ name }}_status {{ name }}_prepare({{ name }}_model **model, const char *interface, const char *weights,
    char *message, size_t size);

/* Computes the outputs. Several threads may do so at once, with one model or with several; each call that runs beside
 * others has {{ scratch_bytes }} bytes of its own{% if threads > 1 %}, and {{ threads - 1 }} thread{{ "s" if threads > 2 }} that help it{% endif %}, which the model keeps for later calls.
 * Inputs and outputs must not overlap.
 */
{{ name }}_status {{ name }}_run({{ parameters }});

/* Frees all that belongs to the model, which may be null; no call may be running on it. */
void {{ name }}_free({{ name }}_model *model);

/* Which processor the model's code is for; empty for null. */
const char *{{ name }}_target(const {{ name }}_model *model);

/* What a status means. */
const char *{{ name }}_message({{ name }}_status status);

#ifdef __cplusplus
}
#endif

#endif
