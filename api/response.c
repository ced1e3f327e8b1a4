// SPDX-License-Identifier: MIT
#include "api/response.h"

#include <assert.h>
#include <string.h>

// {"id":..,"object":..,"created":..,"model":..,["system_fingerprint":..,]"choices":[
static void response_head(struct buf *out, const struct response *r, bool chunk)
{
    buf_puts(out, "{\"id\":");
    buf_json_text(out, r->id);
    if (!r->chat)
        buf_puts(out, ",\"object\":\"text_completion\",\"created\":");
    else if (chunk)
        buf_puts(out, ",\"object\":\"chat.completion.chunk\",\"created\":");
    else
        buf_puts(out, ",\"object\":\"chat.completion\",\"created\":");
    buf_i64(out, r->created);
    buf_puts(out, ",\"model\":");
    buf_json_text(out, r->model);
    if (r->fingerprint) {
        buf_puts(out, ",\"system_fingerprint\":");
        buf_json_text(out, r->fingerprint);
    }
    buf_puts(out, ",\"choices\":[");
}

static void chunk_open(struct buf *out, const struct response *r)
{
    buf_puts(out, "data: ");
    response_head(out, r, true);
}

static void chunk_close(struct buf *out, const struct response *r)
{
    buf_puts(out, r->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void put_usage(struct buf *out, const struct response_usage *u)
{
    assert(u->cached_tokens <= u->prompt_tokens);
    const struct {
        const char *words;
        uint64_t value;
    } rows[] = {
        {"{\"prompt_tokens\":", u->prompt_tokens},
        {",\"completion_tokens\":", u->completion_tokens},
        {",\"total_tokens\":", u->prompt_tokens + u->completion_tokens},
        {",\"prompt_tokens_details\":{\"cached_tokens\":", u->cached_tokens},
        {"},\"completion_tokens_details\":{\"reasoning_tokens\":", u->reasoning_tokens},
        {"},\"prompt_cache_hit_tokens\":", u->cached_tokens},
        {",\"prompt_cache_miss_tokens\":", u->prompt_tokens - u->cached_tokens},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_puts(out, rows[i].words);
        buf_u64(out, rows[i].value);
    }
    buf_putc(out, '}');
}

static void put_array(struct buf *out, const char *words, const struct buf *list)
{
    buf_puts(out, words);
    buf_put(out, list->data, list->n);
    buf_putc(out, ']');
}

// The entries of the parts in the mask (1 << part), or null if there are none to speak of.
static void put_logprobs(struct buf *out, const struct response *r, const struct output *o,
                         unsigned parts)
{
    const struct output_entries *answer = &o->entries[OUTPUT_ANSWER];

    buf_puts(out, ",\"logprobs\":");
    if (!r->logprobs || parts == 0) {
        buf_puts(out, "null");
        return;
    }
    if (!r->chat) {
        put_array(out, "{\"tokens\":[", &answer->list);
        put_array(out, ",\"token_logprobs\":[", &answer->values);
        put_array(out, ",\"top_logprobs\":[", &answer->tops);
        put_array(out, ",\"text_offset\":[", &answer->offsets);
        buf_putc(out, '}');
        return;
    }
    if (parts & 1u << OUTPUT_ANSWER)
        put_array(out, "{\"content\":[", &answer->list);
    else
        buf_puts(out, "{\"content\":null");
    if (parts & 1u << OUTPUT_REASONING)
        put_array(out, ",\"reasoning_content\":[", &o->entries[OUTPUT_REASONING].list);
    else
        buf_puts(out, ",\"reasoning_content\":null");
    buf_puts(out, ",\"refusal\":null}");
}

static void put_finish(struct buf *out, enum sampling_finish finish)
{
    buf_puts(out, ",\"finish_reason\":");
    buf_json_text(out, sampling_finish_name[finish]);
    buf_putc(out, '}');
}

static void put_choice_head(struct buf *out, uint32_t index)
{
    buf_puts(out, "{\"index\":");
    buf_u64(out, index);
}

static void put_part(struct buf *out, const struct output *o, enum output_part part)
{
    size_t n;
    const char *text = output_text(o, part, &n);
    buf_json_string(out, text, n);
}

static void put_choice(struct buf *out, const struct response *r, uint32_t index,
                       const struct output *o)
{
    unsigned parts = 1u << OUTPUT_ANSWER;

    put_choice_head(out, index);
    if (r->chat) {
        buf_puts(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
        put_part(out, o, OUTPUT_ANSWER);
        if (o->had_reasoning) {
            buf_puts(out, ",\"reasoning_content\":");
            put_part(out, o, OUTPUT_REASONING);
            parts |= 1u << OUTPUT_REASONING;
        }
        buf_puts(out, ",\"refusal\":null}");
    } else {
        buf_puts(out, ",\"text\":");
        put_part(out, o, OUTPUT_ANSWER);
    }
    put_logprobs(out, r, o, parts);
    put_finish(out, o->finish);
}

void response_whole(struct buf *out, const struct response *r, const struct output *choices,
                    uint32_t n, const struct response_usage *usage)
{
    response_head(out, r, false);
    for (uint32_t i = 0; i < n; i++) {
        assert(choices[i].finish != SAMPLING_FINISH_NONE);
        if (i > 0)
            buf_putc(out, ',');
        put_choice(out, r, i, &choices[i]);
    }
    buf_puts(out, "],\"usage\":");
    put_usage(out, usage);
    buf_putc(out, '}');
}

void response_chunk_role(struct buf *out, const struct response *r, uint32_t index)
{
    assert(r->chat);
    chunk_open(out, r);
    put_choice_head(out, index);
    buf_puts(out, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null");
    put_finish(out, SAMPLING_FINISH_NONE);
    chunk_close(out, r);
}

// One chunk with the text of one part.
static void chunk_part(struct buf *out, const struct response *r, uint32_t index, struct output *o,
                       enum output_part part)
{
    chunk_open(out, r);
    put_choice_head(out, index);
    if (!r->chat)
        buf_puts(out, ",\"text\":");
    else if (part == OUTPUT_REASONING)
        buf_puts(out, ",\"delta\":{\"content\":null,\"reasoning_content\":");
    else
        buf_puts(out, ",\"delta\":{\"content\":");
    put_part(out, o, part);
    if (r->chat)
        buf_putc(out, '}');
    put_logprobs(out, r, o, 1u << part);
    put_finish(out, SAMPLING_FINISH_NONE);
    chunk_close(out, r);
    output_taken(o, part);
}

void response_chunk_delta(struct buf *out, const struct response *r, uint32_t index,
                          struct output *o)
{
    for (enum output_part part = 0; part < OUTPUT_PART_COUNT; part++) {
        size_t n;
        output_text(o, part, &n);
        if (n > 0)
            chunk_part(out, r, index, o, part);
    }
}

void response_chunk_finish(struct buf *out, const struct response *r, uint32_t index,
                           struct output *o)
{
    unsigned parts = 0;

    assert(o->finish != SAMPLING_FINISH_NONE);
    response_chunk_delta(out, r, index, o);
    // Entries of tokens that left no text: control tokens, what became a stop string.
    for (enum output_part part = 0; part < OUTPUT_PART_COUNT; part++)
        if (o->entries[part].list.n > 0)
            parts |= 1u << part;

    chunk_open(out, r);
    put_choice_head(out, index);
    buf_puts(out, r->chat ? ",\"delta\":{}" : ",\"text\":\"\"");
    put_logprobs(out, r, o, parts);
    put_finish(out, o->finish);
    chunk_close(out, r);
    output_taken(o, OUTPUT_REASONING);
    output_taken(o, OUTPUT_ANSWER);
}

void response_chunk_usage(struct buf *out, const struct response *r,
                          const struct response_usage *usage)
{
    chunk_open(out, r);
    buf_puts(out, "],\"usage\":");
    put_usage(out, usage);
    buf_puts(out, "}\n\n");
}

void response_chunk_done(struct buf *out)
{
    buf_puts(out, "data: [DONE]\n\n");
}

void response_chunk_error(struct buf *out, const struct api_error *err)
{
    buf_puts(out, "data: ");
    api_error_json(out, err);
    buf_puts(out, "\n\n");
}

void response_keep_alive(struct buf *out)
{
    buf_puts(out, ": keep-alive\n\n");
}
