// SPDX-License-Identifier: MIT
#include "api/metrics.h"

#include <math.h>
#include <string.h>

static const char *const kind_name[METRIC_KIND_COUNT] = {
    [METRIC_COUNTER] = "counter",
    [METRIC_GAUGE] = "gauge",
    [METRIC_HISTOGRAM] = "histogram",
};

// Prometheus knows NaN and the infinities by name, which JSON does not.
static void put_value(struct buf *out, double v)
{
    if (isnan(v))
        buf_puts(out, "NaN");
    else if (isinf(v))
        buf_puts(out, v < 0 ? "-Inf" : "+Inf");
    else
        buf_json_double(out, v);
}

// In HELP text and label values a backslash and a newline are escaped; in labels '"' too.
static void put_escaped(struct buf *out, const char *text, bool quotes)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            buf_puts(out, "\\n");
            continue;
        }
        if (*text == '\\' || (quotes && *text == '"'))
            buf_putc(out, '\\');
        buf_putc(out, *text);
    }
}

void metrics_label(struct buf *out, const char *name, const char *value)
{
    buf_puts(out, name);
    buf_puts(out, "=\"");
    put_escaped(out, value, true);
    buf_putc(out, '"');
}

// name[suffix]{labels,le="bound"} value
static void put_sample(struct buf *out, const struct metric *m, const char *suffix,
                       const double *bound, double value)
{
    bool labels = m->labels && m->labels[0] != '\0';

    buf_puts(out, m->name);
    buf_puts(out, suffix);
    if (labels || bound)
        buf_putc(out, '{');
    if (labels)
        buf_puts(out, m->labels);
    if (labels && bound)
        buf_putc(out, ',');
    if (bound) {
        buf_puts(out, "le=\"");
        put_value(out, *bound);
        buf_putc(out, '"');
    }
    if (labels || bound)
        buf_putc(out, '}');
    buf_putc(out, ' ');
    put_value(out, value);
    buf_putc(out, '\n');
}

static void put_histogram(struct buf *out, const struct metric *m)
{
    const double infinity = INFINITY;
    uint64_t seen = 0;

    for (uint32_t i = 0; i <= m->bounds_n; i++) {
        seen += m->counts[i];
        put_sample(out, m, "_bucket", i < m->bounds_n ? &m->bounds[i] : &infinity, (double)seen);
    }
    put_sample(out, m, "_sum", NULL, m->value);
    put_sample(out, m, "_count", NULL, (double)seen);
}

void metrics_write(struct buf *out, const struct metric *metrics, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct metric *m = &metrics[i];
        if (i == 0 || strcmp(m->name, metrics[i - 1].name) != 0) {
            buf_puts(out, "# HELP ");
            buf_puts(out, m->name);
            buf_putc(out, ' ');
            put_escaped(out, m->help, false);
            buf_puts(out, "\n# TYPE ");
            buf_puts(out, m->name);
            buf_putc(out, ' ');
            buf_puts(out, kind_name[m->kind]);
            buf_putc(out, '\n');
        }
        if (m->kind == METRIC_HISTOGRAM)
            put_histogram(out, m);
        else
            put_sample(out, m, "", NULL, m->value);
    }
}
