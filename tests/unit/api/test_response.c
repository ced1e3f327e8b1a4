// SPDX-License-Identifier: MIT
#include "api/response.h"

#include "tests/unit/api/api_check.h"

#include <jansson.h>

#define CHUNK_HEAD                                                                                 \
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":5,"             \
    "\"model\":\"demo\",\"system_fingerprint\":\"fp\",\"choices\":["
#define USAGE                                                                                      \
    "{\"prompt_tokens\":10,\"completion_tokens\":4,\"total_tokens\":14,"                           \
    "\"prompt_tokens_details\":{\"cached_tokens\":3},"                                             \
    "\"completion_tokens_details\":{\"reasoning_tokens\":2},"                                      \
    "\"prompt_cache_hit_tokens\":3,\"prompt_cache_miss_tokens\":7}"

static const struct response chat = {
    .chat = true, .id = "chatcmpl-1", .model = "demo", .fingerprint = "fp", .created = 5};
static const struct response_usage usage = {
    .prompt_tokens = 10, .cached_tokens = 3, .completion_tokens = 4, .reasoning_tokens = 2};

static void start(struct output *o, bool is_chat, bool logprobs)
{
    struct output_params params = {
        .chat = is_chat, .in_reasoning = is_chat, .logprobs = logprobs, .text_max = 1 << 16};
    CHECK(output_init(o, &params) == 0);
}

static void push(struct output *o, enum output_kind kind, const char *text)
{
    CHECK(output_push(o, &(struct output_token){.kind = kind,
                                                .bytes = text,
                                                .n = strlen(text),
                                                .has_logprob = true,
                                                .logprob = -1}) == 0);
}

static void think_and_answer(struct output *o)
{
    push(o, OUTPUT_TEXT, "hm\"");
    push(o, OUTPUT_THINK_CLOSE, "</think>");
    push(o, OUTPUT_TEXT, "\n\n");
    push(o, OUTPUT_TEXT, "yes");
}

static void writes_a_whole_chat(void)
{
    struct output choices[2];
    struct buf out;

    buf_init(&out, 1 << 16);
    start(&choices[0], true, false);
    think_and_answer(&choices[0]);
    CHECK(output_finish(&choices[0], SAMPLING_FINISH_STOP) == 0);
    start(&choices[1], true, false);
    push(&choices[1], OUTPUT_TEXT, "...");
    CHECK(output_finish(&choices[1], SAMPLING_FINISH_LENGTH) == 0);

    response_whole(&out, &chat, choices, 2, &usage);
    CHECK_BUF(&out, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":5,"
                    "\"model\":\"demo\",\"system_fingerprint\":\"fp\",\"choices\":["
                    "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"yes\","
                    "\"reasoning_content\":\"hm\\\"\",\"refusal\":null},\"logprobs\":null,"
                    "\"finish_reason\":\"stop\"},"
                    "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"\","
                    "\"reasoning_content\":\"...\",\"refusal\":null},\"logprobs\":null,"
                    "\"finish_reason\":\"length\"}],\"usage\":" USAGE "}");
    json_t *root = json_loadb(out.data, out.n, JSON_REJECT_DUPLICATES, NULL);
    CHECK(root);
    json_decref(root);
    output_fini(&choices[0]);
    output_fini(&choices[1]);
    buf_free(&out);
}

static void writes_whole_logprobs(void)
{
    struct response r = chat;
    struct output o;
    struct buf out;

    r.logprobs = true;
    r.fingerprint = NULL;
    buf_init(&out, 1 << 16);
    start(&o, true, true);
    push(&o, OUTPUT_TEXT, "a");
    push(&o, OUTPUT_THINK_CLOSE, "c");
    push(&o, OUTPUT_TEXT, "b");
    CHECK(output_finish(&o, SAMPLING_FINISH_STOP) == 0);
    response_whole(&out, &r, &o, 1, &usage);
    buf_putc(&out, '\0');
    CHECK_HAS(out.data,
              "\"model\":\"demo\",\"choices\":["); // no fingerprint
    CHECK_HAS(out.data, "\"logprobs\":{\"content\":["
                        "{\"token\":\"b\",\"logprob\":-1,\"bytes\":[98],\"top_logprobs\":[]}],"
                        "\"reasoning_content\":["
                        "{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97],\"top_logprobs\":[]},"
                        "{\"token\":\"c\",\"logprob\":-1,\"bytes\":[99],\"top_logprobs\":[]}],"
                        "\"refusal\":null}");
    output_fini(&o);
    buf_free(&out);
}

static void writes_a_whole_completion(void)
{
    const struct response r = {.id = "cmpl-1", .model = "demo", .created = 5, .logprobs = true};
    struct output o;
    struct buf out;

    buf_init(&out, 1 << 16);
    start(&o, false, true);
    push(&o, OUTPUT_TEXT, "ab");
    push(&o, OUTPUT_TEXT, "c");
    CHECK(output_finish(&o, SAMPLING_FINISH_LENGTH) == 0);
    response_whole(&out, &r, &o, 1, &usage);
    CHECK_BUF(&out, "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":5,"
                    "\"model\":\"demo\",\"choices\":[{\"index\":0,\"text\":\"abc\",\"logprobs\":{"
                    "\"tokens\":[\"ab\",\"c\"],\"token_logprobs\":[-1,-1],"
                    "\"top_logprobs\":[{\"ab\":-1},{\"c\":-1}],\"text_offset\":[0,2]},"
                    "\"finish_reason\":\"length\"}],\"usage\":" USAGE "}");
    output_fini(&o);
    buf_free(&out);
}

static void streams_a_chat(void)
{
    struct output o;
    struct buf out;

    buf_init(&out, 1 << 16);
    start(&o, true, false);
    response_chunk_role(&out, &chat, 0);
    CHECK_BUF(&out, CHUNK_HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                               "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    buf_clear(&out);
    push(&o, OUTPUT_TEXT, "hm");
    CHECK(output_ready(&o));
    response_chunk_delta(&out, &chat, 0, &o);
    CHECK_BUF(&out, CHUNK_HEAD "{\"index\":0,\"delta\":{\"content\":null,"
                               "\"reasoning_content\":\"hm\"},"
                               "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    buf_clear(&out);
    push(&o, OUTPUT_THINK_CLOSE, "</think>");
    CHECK(!output_ready(&o));
    response_chunk_delta(&out, &chat, 0, &o); // nothing to say
    CHECK_BUF(&out, "");
    push(&o, OUTPUT_TEXT, "\n\nyes\xe4\xb8");
    response_chunk_delta(&out, &chat, 0, &o);
    CHECK_BUF(&out, CHUNK_HEAD "{\"index\":0,\"delta\":{\"content\":\"yes\"},"
                               "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    buf_clear(&out);
    CHECK(output_finish(&o, SAMPLING_FINISH_STOP) == 0);
    response_chunk_finish(&out, &chat, 0, &o); // sends what was held first
    CHECK_BUF(&out, CHUNK_HEAD "{\"index\":0,\"delta\":{\"content\":\"\xef\xbf\xbd\"},"
                               "\"logprobs\":null,\"finish_reason\":null}]}\n\n" CHUNK_HEAD
                               "{\"index\":0,\"delta\":{},\"logprobs\":null,"
                               "\"finish_reason\":\"stop\"}]}\n\n");
    buf_clear(&out);
    response_chunk_done(&out);
    CHECK_BUF(&out, "data: [DONE]\n\n");
    output_fini(&o);
    buf_free(&out);
}

// "usage":null in chunks only with include_usage; then one more chunk has it and no choices.
static void streams_usage(void)
{
    struct response r = chat;
    struct output o;
    struct buf out;

    r.include_usage = true;
    buf_init(&out, 1 << 16);
    start(&o, true, false);
    push(&o, OUTPUT_TEXT, "a");
    response_chunk_delta(&out, &r, 3, &o);
    CHECK_BUF(&out, CHUNK_HEAD "{\"index\":3,\"delta\":{\"content\":null,"
                               "\"reasoning_content\":\"a\"},\"logprobs\":null,"
                               "\"finish_reason\":null}],\"usage\":null}\n\n");
    buf_clear(&out);
    response_chunk_usage(&out, &r, &usage);
    CHECK_BUF(&out, CHUNK_HEAD "],\"usage\":" USAGE "}\n\n");
    output_fini(&o);
    buf_free(&out);
}

// All entries of all chunks together are those of the whole answer, also of tokens without text.
static void streams_every_logprob(void)
{
    struct response r = chat;
    struct output o;
    struct buf out;
    unsigned reasoning = 0, content = 0;

    r.logprobs = true;
    buf_init(&out, 1 << 16);
    start(&o, true, true);
    push(&o, OUTPUT_TEXT, "hm");
    response_chunk_delta(&out, &r, 0, &o);
    push(&o, OUTPUT_THINK_CLOSE, "</think>");
    response_chunk_delta(&out, &r, 0, &o);
    push(&o, OUTPUT_TEXT, "\n\n"); // dropped
    push(&o, OUTPUT_TEXT, "yes");
    response_chunk_delta(&out, &r, 0, &o);
    push(&o, OUTPUT_CONTROL, "<|User|>"); // never shown
    response_chunk_delta(&out, &r, 0, &o);
    CHECK(output_finish(&o, SAMPLING_FINISH_STOP) == 0);
    CHECK(output_ready(&o));
    response_chunk_finish(&out, &r, 0, &o);
    buf_putc(&out, '\0');
    CHECK(buf_error(&out) == 0);

    for (char *event = out.data; *event != '\0';) {
        char *end = strstr(event, "\n\n");
        CHECK(end && strncmp(event, "data: ", 6) == 0);
        json_t *root = json_loadb(event + 6, (size_t)(end - event - 6), 0, NULL);
        json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
        json_t *logprobs = json_object_get(choice, "logprobs");
        CHECK(choice);
        reasoning += (unsigned)json_array_size(json_object_get(logprobs, "reasoning_content"));
        content += (unsigned)json_array_size(json_object_get(logprobs, "content"));
        json_decref(root);
        event = end + 2;
    }
    CHECK(reasoning == 2);
    CHECK(content == 3);
    output_fini(&o);
    buf_free(&out);
}

static void streams_a_completion(void)
{
    const struct response r = {.id = "cmpl-1", .model = "demo", .created = 5, .logprobs = true};
    struct output o;
    struct buf out;

    buf_init(&out, 1 << 16);
    start(&o, false, true);
    push(&o, OUTPUT_TEXT, "ab");
    response_chunk_delta(&out, &r, 1, &o);
    push(&o, OUTPUT_TEXT, "c");
    CHECK(output_finish(&o, SAMPLING_FINISH_LENGTH) == 0);
    buf_clear(&out);
    response_chunk_finish(&out, &r, 1, &o);
    CHECK_BUF(&out, "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":5,"
                    "\"model\":\"demo\",\"choices\":[{\"index\":1,\"text\":\"c\",\"logprobs\":{"
                    "\"tokens\":[\"c\"],\"token_logprobs\":[-1],\"top_logprobs\":[{\"c\":-1}],"
                    "\"text_offset\":[2]},\"finish_reason\":null}]}\n\n"
                    "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":5,"
                    "\"model\":\"demo\",\"choices\":[{\"index\":1,\"text\":\"\",\"logprobs\":null,"
                    "\"finish_reason\":\"length\"}]}\n\n");
    output_fini(&o);
    buf_free(&out);
}

static void streams_errors_and_comments(void)
{
    struct api_error err;
    struct buf out;

    buf_init(&out, 1 << 16);
    response_keep_alive(&out);
    CHECK_BUF(&out, ": keep-alive\n\n");
    buf_clear(&out);
    api_error_set(&err, API_ERROR_INTERNAL, NULL, "lost");
    response_chunk_error(&out, &err);
    CHECK_BUF(&out, "data: {\"error\":{\"message\":\"lost\",\"type\":\"server_error\","
                    "\"param\":null,\"code\":\"internal_error\"}}\n\n");
    buf_free(&out);
}

int main(void)
{
    writes_a_whole_chat();
    writes_whole_logprobs();
    writes_a_whole_completion();
    streams_a_chat();
    streams_usage();
    streams_every_logprob();
    streams_a_completion();
    streams_errors_and_comments();
    return 0;
}
