// SPDX-License-Identifier: MIT
// Replies and conversations: what the daemon sends -> text, figures, errors; messages -> a request.
#include "client/conversation.h"
#include "client/reply.h"
#include "tests/check.h"
#include "tests/unit/client/served.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define CHUNK(delta)                                                                               \
    "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{" delta "},"                      \
    "\"finish_reason\":null}],\"usage\":null}\n\n"
#define DONE "data: [DONE]\n\n"

static struct served served;

struct shown {
    char text[512]; // r:... and c:...
};

static void on_piece(void *user, enum reply_part part, const char *bytes, size_t len)
{
    struct shown *shown = user;
    size_t at = strlen(shown->text);
    snprintf(shown->text + at, sizeof(shown->text) - at, "%c:%.*s|",
             part == REPLY_REASONING ? 'r' : 'c', (int)len, bytes);
}

// ask plays a script and reads the reply to its end.
static int ask(const char *script, struct reply *reply, struct shown *shown, struct fault *fault)
{
    struct reply_call *call = NULL;
    struct reply_request request = {.target = "/v1/chat/completions",
                                    .body = "{}",
                                    .body_bytes = 2,
                                    .piece = on_piece,
                                    .piece_user = shown};
    char seen[4096];

    *reply = (struct reply){0};
    *shown = (struct shown){0};
    *fault = (struct fault){0};
    served_script(&served, script, strlen(script), 7, 1);
    CHECK(reply_open(&served.address, &request, -1, reply, &call, fault) == 0);
    int more = 1;
    while (more > 0) {
        struct pollfd fd = {.fd = reply_fd(call), .events = POLLIN};
        CHECK(poll(&fd, 1, 10000) == 1);
        more = reply_read(call, fault);
    }
    reply_close(&call);
    served_request(&served, seen, sizeof(seen));
    return more;
}

static void test_whole(void)
{
    struct reply reply;
    struct shown shown;
    struct fault fault;
    static const char script[] = HEAD ": keep-alive\n\n" CHUNK(
        "\"role\":\"assistant\",\"content\":\"\"") CHUNK("\"reasoning_content\":\"First\",\"content\":null")
        CHUNK("\"reasoning_content\":\" \\u0000x\"") CHUNK("\"content\":\"The \"") CHUNK(
            "\"content\":\"\\u00e9nd\"") "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                                         "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5,"
                                         "\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n" DONE;

    CHECK(ask(script, &reply, &shown, &fault) == 0);
    CHECK(strncmp(shown.text, "r:First|r: ", 11) == 0);
    CHECK(reply.part[REPLY_REASONING].n == 8);
    CHECK(strcmp(reply.part[REPLY_CONTENT].bytes, "The \xc3\xa9nd") == 0);
    CHECK(reply.pieces[REPLY_REASONING] == 2 && reply.pieces[REPLY_CONTENT] == 2);
    CHECK(strcmp(reply.finish_reason, "stop") == 0 && strcmp(reply.model, "m") == 0);
    CHECK(reply.has_usage && reply.prompt_tokens == 9 && reply.cached_tokens == 3);
    CHECK(reply_tokens(&reply) == 5);
    CHECK(reply.sent_us && reply.first_us >= reply.sent_us && reply.last_us >= reply.first_us);
    reply_free(&reply);

    // /v1/completions says `text`.
    CHECK(ask(HEAD "data: {\"choices\":[{\"index\":0,\"text\":\"ab\"}]}\n\n" DONE, &reply, &shown,
              &fault) == 0);
    CHECK(strcmp(shown.text, "c:ab|") == 0 && reply_tokens(&reply) == 1);
    CHECK(reply_rate(&reply) > 0 && reply_rate(&reply) <= 1e6); // all at once
    reply_free(&reply);
}

static void test_errors(void)
{
    static const struct {
        const char *script, *says;
    } rows[] = {
        {"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n"
         "{\"error\":{\"message\":\"prompt too long: 9 > 5\"}}",
         "prompt too long: 9 > 5 (HTTP 400)"},
        {"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\noops", "HTTP status 502"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "without a stream"},
        {HEAD CHUNK("\"content\":\"a\"") "data: {\"error\":{\"message\":\"device lost\"}}\n\n",
         "device lost"},
        {HEAD CHUNK("\"content\":\"a\""), "before the answer was complete"},
        {HEAD "data: {\n\n", "no JSON object"},
        {HEAD "data: [1]\n\n", "no JSON object"},
        {HEAD "data: \n\n", "no JSON object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply reply;
        struct shown shown;
        struct fault fault;
        CHECK(ask(rows[i].script, &reply, &shown, &fault) < 0);
        fprintf(stderr, "row %zu: %s\n", i, fault.text);
        CHECK(strstr(fault.text, rows[i].says));
        reply_free(&reply);
    }
}

// Fields of a wrong type are no text and no figure, never a crash.
static void test_odd(void)
{
    struct reply reply;
    struct shown shown;
    struct fault fault;
    static const char script[] =
        HEAD "data: {}\n\n"
             "data: {\"choices\":3,\"usage\":[],\"model\":4}\n\n"
             "data: {\"choices\":[7]}\n\n"
             "data: {\"choices\":[{\"delta\":[],\"finish_reason\":{}}]}\n\n"
             "data: {\"choices\":[{\"delta\":{\"content\":[1],\"reasoning_content\":5}}]}\n\n"
             "data: {\"usage\":{\"completion_tokens\":-4,\"prompt_tokens\":\"x\"}}\n\n" DONE
             "data: {\"choices\":[{\"delta\":{\"content\":\"late\"}}]}\n\n";
    CHECK(ask(script, &reply, &shown, &fault) == 0);
    CHECK(reply_tokens(&reply) == 0 && reply.prompt_tokens == 0);
    CHECK(reply.finish_reason[0] == '\0' && reply.model[0] == '\0');
    reply_free(&reply);
}

// The rate is that between the first text and the last, whatever came together.
static void test_rate(void)
{
    struct reply reply = {.sent_us = 1000000, .pieces = {4, 6}, .pieces_first = 2};
    CHECK(reply_rate(&reply) == 0); // no text
    reply.first_us = 2000000;
    reply.last_us = 4000000;
    CHECK(reply_rate(&reply) == 4); // 8 of 10 in 2 s
    reply.has_usage = true;
    reply.completion_tokens = 20; // some pieces were more than one
    CHECK(reply_rate(&reply) == 8);
    reply.last_us = reply.first_us; // all in one read: 20 in the second since the request
    CHECK(reply_rate(&reply) > 19.9 && reply_rate(&reply) <= 20);
}

static void push(struct conversation *conversation, const char *role, const char *words)
{
    struct text text = {0};
    CHECK(text_append(&text, words, strlen(words), 1000) == 0);
    CHECK(conversation_push(conversation, role, &text, NULL) == 0);
    text_free(&text);
}

static void test_conversation(void)
{
    struct conversation conversation;
    struct options options = {.temperature = NAN,
                              .top_p = 0.5,
                              .min_p = NAN,
                              .top_k = OPTION_ABSENT,
                              .seed = 7,
                              .max_tokens = OPTION_ABSENT,
                              .stop = "\n\n"};
    char *body = NULL;

    CHECK(conversation_init(&conversation, "be brief", NULL) == 0);
    push(&conversation, "user", "hi \"there\"");
    push(&conversation, "assistant", "hello");
    push(&conversation, "user", "forgotten");
    conversation_pop(&conversation);
    CHECK(conversation_body(&conversation, &options, "demo", &body, NULL) == 0);
    json_t *root = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
    CHECK(root);
    const json_t *messages = json_object_get(root, "messages");
    CHECK(json_array_size(messages) == 3);
    CHECK(strcmp(json_string_value(json_object_get(json_array_get(messages, 1), "content")),
                 "hi \"there\"") == 0);
    CHECK(json_integer_value(json_object_get(root, "seed")) == 7);
    CHECK(json_real_value(json_object_get(root, "top_p")) == 0.5);
    CHECK(strcmp(json_string_value(json_object_get(root, "stop")), "\n\n") == 0);
    CHECK(!json_object_get(root, "temperature") && !json_object_get(root, "max_tokens"));
    CHECK(json_is_true(json_object_get(root, "stream")));
    json_decref(root);
    free(body);

    struct text wrong = {0};
    struct fault fault = {0};
    CHECK(text_append(&wrong, "\xff", 1, 10) == 0);
    CHECK(conversation_push(&conversation, "user", &wrong, &fault) == -EILSEQ);
    CHECK(strstr(fault.text, "UTF-8"));
    CHECK(json_array_size(conversation.messages) == 3);
    text_free(&wrong);
    conversation_fini(&conversation);
    CHECK(conversation_init(&conversation, "\xff", &fault) == -EILSEQ);
    CHECK(!conversation.messages);
}

static void test_text(void)
{
    struct text text = {0};
    CHECK(text_append(&text, "abc", 3, 5) == 0);
    CHECK(text_append(&text, "def", 3, 5) == -EFBIG);
    CHECK(text.n == 3 && strcmp(text.bytes, "abc") == 0);
    CHECK(text_append(&text, "de", 2, 5) == 0);
    CHECK(text_append(&text, "", 0, 5) == 0);
    CHECK(text_append(&text, "x", 1, 2) == -EFBIG); // a limit below what is there
    text_clear(&text);
    CHECK(text.n == 0 && text.bytes[0] == '\0');
    text_free(&text);
    CHECK(!text.bytes);
}

int main(void)
{
    served_open(&served);
    test_whole();
    test_errors();
    test_odd();
    test_rate();
    test_conversation();
    test_text();
    served_close(&served);
    return 0;
}
