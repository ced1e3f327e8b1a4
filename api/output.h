// SPDX-License-Identifier: MIT
// output: the tokens of one choice -> what its client sees.  A state machine:
//
//     token bytes -> whole UTF-8 characters -> reasoning | answer -> stop strings (answer only)
//
// - Reasoning ends at the first </think> token; the leading newlines of the answer after it are
//   dropped.  A <think> that the model itself sends first opens reasoning.
// - Control tokens never show.  They count, and are listed in logprobs.
// - Stop strings are found wherever token borders lie, never shown, never looked for in reasoning;
//   a suffix that may become one waits, and is sent when the stream ends without it.
// - One logprobs entry a sampled token, raw bytes exact, under the part (reasoning or answer) that
//   the token belongs to; <think> and </think> belong to the reasoning.
// What it does not do: decide when to end, other than by stop strings; see response.h for the JSON.
// Owner: the thread of the connection.  Grows as text grows: at most text_max bytes a part.
#pragma once
#include "api/buf.h"
#include "api/sampling.h"
#include "api/utf8.h"

enum output_kind {
    OUTPUT_TEXT,        // shown
    OUTPUT_CONTROL,     // never shown: in chats every control token; in completions special ones
    OUTPUT_THINK_OPEN,  // <think>; chats only (a completion passes it as OUTPUT_TEXT)
    OUTPUT_THINK_CLOSE, // </think>; chats only
    OUTPUT_KIND_COUNT
};

struct output_top {
    const char *bytes; // [n] raw bytes of the token
    size_t n;
    float logprob;
};

// One sampled token.  The end token is not one: call output_finish instead.
struct output_token {
    enum output_kind kind;
    const char *bytes; // [n] raw bytes as the vocabulary has them
    size_t n;
    bool has_logprob; // false: null (the first token of an echoed prompt)
    float logprob;
    const struct output_top *top; // [top_n], falling
    uint32_t top_n;
};

// The JSON of entries that wait to be sent; see response.c for the two forms.
struct output_entries {
    struct buf list;    // chat: {"token":...},{...}   completion: "tok","tok"
    struct buf values;  // completion only: token_logprobs
    struct buf tops;    // completion only: top_logprobs
    struct buf offsets; // completion only: text_offset
};

struct output_params {
    bool chat;         // false: a text completion; no reasoning, legacy logprobs
    bool in_reasoning; // the prompt ended inside <think>
    bool logprobs;
    uint32_t top_logprobs;
    const char *const *stops; // [stops_n], must outlive the output
    uint32_t stops_n;         // 0..SAMPLING_STOPS_MAX
    size_t text_max;          // bytes of one part, e.g. 64 MiB; more is -ENOBUFS
};

enum output_part { OUTPUT_REASONING, OUTPUT_ANSWER, OUTPUT_PART_COUNT };

struct output {
    struct output_params params;
    uint32_t tokens_n;           // pushed; usage.completion_tokens
    uint32_t reasoning_tokens_n; // of these, in reasoning
    enum sampling_finish finish; // NONE until output_finish or a stop string
    int stop_idx;                // which stop string ended it; -1: none

    // private; response.c reads and clears the parts
    struct buf text[OUTPUT_PART_COUNT]; // what was not taken yet; of the answer the last
                                        // held_n bytes may not be shown
    struct output_entries entries[OUTPUT_PART_COUNT];
    size_t held_n;
    uint64_t chars; // characters of the answer so far, for text_offset
    struct utf8_stream utf8;
    uint8_t state;
    bool had_reasoning;
    struct output_stop *stop; // [stops_n], one automaton each
};

// output_init: returns 0 or -ENOMEM (nothing to free then).
int output_init(struct output *o, const struct output_params *params);
void output_fini(struct output *o); // accepts a zeroed one

// output_echo puts text of the prompt in front of a completion's answer (echo: true); stop strings
// are not looked for in it.  Before the first push.
//
// token: its bytes; with logprobs one entry a token, as output_push.
int output_echo(struct output *o, const struct output_token *token);

// output_push takes one sampled token.
//
// Returns 0, 1 if a stop string ended the choice (finish is set, push no more), -ENOMEM, -ENOBUFS.
int output_push(struct output *o, const struct output_token *token);

// output_finish ends the choice: what waited (half a character, half a stop string) is released.
// After a stop string it does nothing.  reason: STOP or LENGTH.
int output_finish(struct output *o, enum sampling_finish reason);

// output_ready says whether a stream has something to send: text, or after the end entries.
bool output_ready(const struct output *o);

// output_text returns what may be shown of a part and was not taken yet; [*ret_n], valid until the
// next call on o.
const char *output_text(const struct output *o, enum output_part part, size_t *ret_n);

// output_taken forgets text that may be shown and the entries of a part: they were sent.
void output_taken(struct output *o, enum output_part part);
