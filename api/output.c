// SPDX-License-Identifier: MIT
#include "api/output.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum output_state {
    OUTPUT_START,     // a chat before its first token: <think> opens reasoning here
    OUTPUT_IN_REASON, //
    OUTPUT_NEWLINES,  // behind </think>: newlines are dropped
    OUTPUT_IN_ANSWER,
    OUTPUT_DONE
};

// A stop string as an automaton of Knuth, Morris and Pratt: state = how many of its bytes the text
// ends with.  A byte costs amortised constant time however the text is cut.
struct output_stop {
    const unsigned char *text;
    uint32_t n;
    uint32_t state;
    uint16_t *border; // [n] longest proper border of text[0..i]
};
_Static_assert(SAMPLING_STOP_BYTES_MAX <= UINT16_MAX, "borders fit");

static int stop_init(struct output_stop *stop, const char *text)
{
    size_t n = strlen(text);

    assert(n > 0);
    assert(n <= SAMPLING_STOP_BYTES_MAX);
    stop->border = calloc(n, sizeof(*stop->border));
    if (!stop->border)
        return -ENOMEM;
    stop->text = (const unsigned char *)text;
    stop->n = (uint32_t)n;
    for (uint32_t i = 1, k = 0; i < n; i++) {
        while (k > 0 && stop->text[i] != stop->text[k])
            k = stop->border[k - 1];
        k += stop->text[i] == stop->text[k];
        stop->border[i] = (uint16_t)k;
    }
    return 0;
}

// stop_step returns true when the text ends with the stop string now.
static bool stop_step(struct output_stop *stop, unsigned char c)
{
    while (stop->state > 0 && stop->text[stop->state] != c)
        stop->state = stop->border[stop->state - 1];
    stop->state += stop->text[stop->state] == c;
    return stop->state == stop->n;
}

// Looks at one byte of the answer with every automaton.  Returns the index of a stop string that it
// completes (the longest, if several), or -1; *ret_held: how many bytes may yet become one.
static int stops_step(struct output *o, unsigned char c, size_t *ret_held)
{
    int found = -1;
    size_t held = 0;

    for (uint32_t i = 0; i < o->params.stops_n; i++) {
        struct output_stop *stop = &o->stop[i];
        if (stop_step(stop, c) && (found < 0 || stop->n > o->stop[found].n))
            found = (int)i;
        if (stop->state > held)
            held = stop->state;
    }
    *ret_held = held;
    return found;
}

static struct buf *output_buf(struct output *o, enum output_part part)
{
    return &o->text[part];
}

// Whole characters for the answer.  Returns true if a stop string ended it.
static bool answer_put(struct output *o, const char *text, size_t n)
{
    struct buf *b = output_buf(o, OUTPUT_ANSWER);

    if (o->state == OUTPUT_NEWLINES) {
        size_t skip = 0;
        while (skip < n && text[skip] == '\n')
            skip++;
        text += skip;
        n -= skip;
        if (n == 0)
            return false;
        o->state = OUTPUT_IN_ANSWER;
    }
    o->chars += utf8_chars(text, n);
    if (o->params.stops_n == 0) {
        buf_put(b, text, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int found = stops_step(o, (unsigned char)text[i], &o->held_n);
        if (found < 0)
            continue;
        buf_put(b, text, i + 1);
        if (buf_error(b) == 0)
            buf_cut(b, b->n - o->stop[found].n);
        o->held_n = 0;
        o->stop_idx = found;
        o->finish = SAMPLING_FINISH_STOP;
        o->state = OUTPUT_DONE;
        return true;
    }
    buf_put(b, text, n);
    return false;
}

static bool part_put(struct output *o, const char *text, size_t n)
{
    if (o->state != OUTPUT_IN_REASON)
        return answer_put(o, text, n);
    buf_put(output_buf(o, OUTPUT_REASONING), text, n);
    return false;
}

// The bytes of one token, through the UTF-8 stream in slices.
static bool bytes_put(struct output *o, const char *bytes, size_t n)
{
    char out[UTF8_STREAM_MAX(256)];

    while (n > 0) {
        size_t take = n < 256 ? n : 256;
        size_t out_n = utf8_stream_push(&o->utf8, bytes, take, out);
        if (part_put(o, out, out_n))
            return true;
        bytes += take;
        n -= take;
    }
    return false;
}

// Half a character can get no more of its bytes: the part ends, or the choice.
static bool character_end(struct output *o)
{
    char out[3];
    return part_put(o, out, utf8_stream_finish(&o->utf8, out));
}

static void entry_comma(struct buf *b)
{
    if (b->n > 0)
        buf_putc(b, ',');
}

// {"token":"..","logprob":..,"bytes":[..] without its closing brace
static void chat_entry(struct buf *b, const char *bytes, size_t n, float logprob)
{
    buf_puts(b, "{\"token\":");
    buf_json_string(b, bytes, n);
    buf_puts(b, ",\"logprob\":");
    buf_json_real(b, logprob);
    buf_puts(b, ",\"bytes\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(b, ',');
        buf_u64(b, (unsigned char)bytes[i]);
    }
    buf_putc(b, ']');
}

static void chat_entry_put(struct output *o, enum output_part part, const struct output_token *t)
{
    struct buf *b = &o->entries[part].list;
    uint32_t top_n = t->top_n < o->params.top_logprobs ? t->top_n : o->params.top_logprobs;

    entry_comma(b);
    chat_entry(b, t->bytes, t->n, t->logprob);
    buf_puts(b, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < top_n; i++) {
        if (i > 0)
            buf_putc(b, ',');
        chat_entry(b, t->top[i].bytes, t->top[i].n, t->top[i].logprob);
        buf_putc(b, '}');
    }
    buf_puts(b, "]}");
}

// The legacy form names a token by its text alone, so one that is not valid UTF-8 is written
// "bytes:\xe2\x80" as OpenAI does, and two tokens never look the same.
static void legacy_name(struct buf *b, const char *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";

    if (utf8_check(bytes, n, NULL)) {
        buf_json_string(b, bytes, n);
        return;
    }
    buf_puts(b, "\"bytes:");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        buf_put(b, (char[]){'\\', '\\', 'x', hex[c >> 4], hex[c & 15]}, 5);
    }
    buf_putc(b, '"');
}

static bool same_bytes(const char *a, size_t a_n, const char *b, size_t b_n)
{
    return a_n == b_n && (a_n == 0 || memcmp(a, b, a_n) == 0);
}

// {"tok":lp,...}: the alternatives, and the sampled token if it is none of them.
static void legacy_tops(struct buf *b, const struct output_token *t, uint32_t top_n)
{
    bool sampled = false;

    buf_putc(b, '{');
    for (uint32_t i = 0; i < top_n; i++) {
        if (i > 0)
            buf_putc(b, ',');
        legacy_name(b, t->top[i].bytes, t->top[i].n);
        buf_putc(b, ':');
        buf_json_real(b, t->top[i].logprob);
        sampled |= same_bytes(t->top[i].bytes, t->top[i].n, t->bytes, t->n);
    }
    if (!sampled) {
        if (top_n > 0)
            buf_putc(b, ',');
        legacy_name(b, t->bytes, t->n);
        buf_putc(b, ':');
        buf_json_real(b, t->logprob);
    }
    buf_putc(b, '}');
}

static void legacy_entry_put(struct output *o, const struct output_token *t, uint64_t offset)
{
    struct output_entries *e = &o->entries[OUTPUT_ANSWER];
    uint32_t top_n = t->top_n < o->params.top_logprobs ? t->top_n : o->params.top_logprobs;

    entry_comma(&e->list);
    entry_comma(&e->values);
    entry_comma(&e->tops);
    entry_comma(&e->offsets);
    legacy_name(&e->list, t->bytes, t->n);
    buf_u64(&e->offsets, offset);
    if (!t->has_logprob) {
        buf_puts(&e->values, "null");
        buf_puts(&e->tops, "null");
        return;
    }
    buf_json_real(&e->values, t->logprob);
    legacy_tops(&e->tops, t, top_n);
}

static void entry_put(struct output *o, enum output_part part, const struct output_token *t,
                      uint64_t offset)
{
    if (!o->params.logprobs)
        return;
    if (o->params.chat)
        chat_entry_put(o, part, t);
    else
        legacy_entry_put(o, t, offset);
}

// output_bufs returns the i-th of all buffers, so that none is forgotten.
#define OUTPUT_BUFS_N (OUTPUT_PART_COUNT * 5)
static struct buf *output_bufs(struct output *o, unsigned i)
{
    struct output_entries *e = &o->entries[i / 5];
    struct buf *bufs[5] = {&o->text[i / 5], &e->list, &e->values, &e->tops, &e->offsets};
    return bufs[i % 5];
}

static int output_error(struct output *o)
{
    for (unsigned i = 0; i < OUTPUT_BUFS_N; i++)
        if (buf_error(output_bufs(o, i)))
            return buf_error(output_bufs(o, i));
    return 0;
}

int output_init(struct output *o, const struct output_params *params)
{
    assert(params->stops_n <= SAMPLING_STOPS_MAX);
    *o = (struct output){.params = *params, .stop_idx = -1};
    for (unsigned i = 0; i < OUTPUT_BUFS_N; i++)
        buf_init(output_bufs(o, i), params->text_max);
    if (params->chat)
        o->state = params->in_reasoning ? OUTPUT_IN_REASON : OUTPUT_START;
    else
        o->state = OUTPUT_IN_ANSWER;
    o->had_reasoning = o->state == OUTPUT_IN_REASON;

    if (params->stops_n == 0)
        return 0;
    o->stop = calloc(params->stops_n, sizeof(*o->stop));
    if (!o->stop)
        return -ENOMEM;
    for (uint32_t i = 0; i < params->stops_n; i++) {
        if (stop_init(&o->stop[i], params->stops[i])) {
            output_fini(o);
            return -ENOMEM;
        }
    }
    return 0;
}

void output_fini(struct output *o)
{
    for (unsigned i = 0; i < OUTPUT_BUFS_N; i++)
        buf_free(output_bufs(o, i));
    for (uint32_t i = 0; o->stop && i < o->params.stops_n; i++)
        free(o->stop[i].border);
    free(o->stop);
    o->stop = NULL;
}

int output_echo(struct output *o, const struct output_token *t)
{
    char out[UTF8_STREAM_MAX(256)];
    struct buf *b = output_buf(o, OUTPUT_ANSWER);

    assert(!o->params.chat);
    assert(o->tokens_n == 0);
    entry_put(o, OUTPUT_ANSWER, t, o->chars);
    for (size_t i = 0; i < t->n && t->kind == OUTPUT_TEXT;) {
        size_t take = t->n - i < 256 ? t->n - i : 256;
        size_t n = utf8_stream_push(&o->utf8, t->bytes + i, take, out);
        buf_put(b, out, n);
        o->chars += utf8_chars(out, n);
        i += take;
    }
    return output_error(o);
}

// A control token: ends half a character, may switch the part.  Returns true if that completed a
// stop string (U+FFFD can be in one).
static bool control_put(struct output *o, enum output_kind kind)
{
    if (character_end(o))
        return true;
    if (kind == OUTPUT_THINK_OPEN && o->state == OUTPUT_START) {
        o->state = OUTPUT_IN_REASON;
        o->had_reasoning = true;
    } else if (kind == OUTPUT_THINK_CLOSE && o->state != OUTPUT_IN_ANSWER) {
        o->state = OUTPUT_NEWLINES; // from START too: reasoning that was empty
    }
    return false;
}

int output_push(struct output *o, const struct output_token *t)
{
    bool stopped;

    assert(o->state != OUTPUT_DONE);
    o->tokens_n++;
    bool opens = o->state == OUTPUT_START && t->kind == OUTPUT_THINK_OPEN;
    bool reasoning = o->state == OUTPUT_IN_REASON || opens;
    o->reasoning_tokens_n += reasoning;
    entry_put(o, reasoning ? OUTPUT_REASONING : OUTPUT_ANSWER, t, o->chars);

    if (t->kind == OUTPUT_TEXT) {
        stopped = bytes_put(o, t->bytes, t->n);
        if (o->state == OUTPUT_START)
            o->state = OUTPUT_IN_ANSWER;
    } else {
        stopped = control_put(o, t->kind);
    }
    int err = output_error(o);
    return err ? err : stopped;
}

int output_finish(struct output *o, enum sampling_finish reason)
{
    if (o->state == OUTPUT_DONE)
        return output_error(o);
    if (!character_end(o)) { // else U+FFFD completed a stop string
        o->finish = reason;
        o->state = OUTPUT_DONE;
        o->held_n = 0;
    }
    return output_error(o);
}

const char *output_text(const struct output *o, enum output_part part, size_t *ret_n)
{
    const struct buf *b = &o->text[part];
    size_t held = part == OUTPUT_ANSWER ? o->held_n : 0;

    *ret_n = held < b->n ? b->n - held : 0; // less than is held only after running out of memory
    return b->data;
}

bool output_ready(const struct output *o)
{
    size_t reasoning_n, answer_n;

    output_text(o, OUTPUT_REASONING, &reasoning_n);
    output_text(o, OUTPUT_ANSWER, &answer_n);
    if (reasoning_n > 0 || answer_n > 0)
        return true;
    return o->finish != SAMPLING_FINISH_NONE &&
           (o->entries[OUTPUT_REASONING].list.n > 0 || o->entries[OUTPUT_ANSWER].list.n > 0);
}

void output_taken(struct output *o, enum output_part part)
{
    struct output_entries *e = &o->entries[part];
    size_t n;

    output_text(o, part, &n);
    buf_drop(&o->text[part], n);
    buf_cut(&e->list, 0);
    buf_cut(&e->values, 0);
    buf_cut(&e->tops, 0);
    buf_cut(&e->offsets, 0);
}
