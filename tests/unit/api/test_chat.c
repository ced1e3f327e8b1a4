// SPDX-License-Identifier: MIT
// Bodies of /v1/chat/completions and /apply-template: what is read from them, and for everything
// else the status and the field that the error names.
#include "api/chat.h"

#include "tests/unit/api/api_check.h"

#include <errno.h>

#define HEAD "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static struct chat_request *parse(const char *body)
{
    struct chat_request *req = NULL;
    struct api_error err;

    if (chat_request_parse(body, strlen(body), &api_check_limits, &req, &err)) {
        fprintf(stderr, "refused: %s\n%s\n", err.message, body);
        exit(1);
    }
    return req;
}

static struct chat_request *parse_with(const char *fields)
{
    char body[4096];
    snprintf(body, sizeof(body), HEAD ",%s}", fields);
    return parse(body);
}

// body is refused with this status; the error names param (NULL: none) and has `words`.
static void check_refused(const char *body, int status, const char *param, const char *words)
{
    struct chat_request *req = NULL;
    struct api_error err;

    int got = chat_request_parse(body, strlen(body), &api_check_limits, &req, &err);
    if (got >= 0 || err.status != status || strcmp(err.param, param ? param : "") != 0 ||
        !strstr(err.message, words)) {
        fprintf(stderr, "%s\n-> %d, %d, param \"%s\", \"%s\"; want %d, \"%s\", \"%s\"\n", body, got,
                got < 0 ? err.status : 200, err.param, err.message, status, param ? param : "",
                words);
        exit(1);
    }
    CHECK(!req);
}

static void check_refused_with(const char *fields, const char *param)
{
    char body[4096];
    snprintf(body, sizeof(body), HEAD ",%s}", fields);
    check_refused(body, 400, param, param);
}

static void check_refused_messages(const char *messages, const char *param)
{
    char body[4096];
    snprintf(body, sizeof(body), "{\"model\":\"demo\",\"messages\":%s}", messages);
    check_refused(body, 400, param, param);
}

static void reads_messages(void)
{
    struct chat_request *req =
        parse("{\"model\":\"demo\",\"messages\":["
              "{\"role\":\"system\",\"content\":\"s\",\"name\":\"ignored\"},"
              "{\"role\":\"developer\",\"content\":\"d\"},"
              "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
              "{\"type\":\"text\",\"text\":\"b\\n\"}]},"
              "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"dropped\","
              "\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
              "{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}}]},"
              "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"7\"},"
              "{\"role\":\"user\",\"content\":[]},"
              "{\"role\":\"assistant\",\"content\":\"Sure, \",\"prefix\":true}]}");

    static const struct {
        enum chat_request_role role;
        const char *content;
    } want[] = {
        {CHAT_REQUEST_SYSTEM, "s"},         {CHAT_REQUEST_SYSTEM, "d"}, {CHAT_REQUEST_USER, "ab\n"},
        {CHAT_REQUEST_ASSISTANT, NULL},     {CHAT_REQUEST_TOOL, "7"},   {CHAT_REQUEST_USER, ""},
        {CHAT_REQUEST_ASSISTANT, "Sure, "},
    };
    CHECK(req->messages_n == ARRAY_LEN(want));
    for (uint32_t i = 0; i < req->messages_n; i++) {
        CHECK(req->messages[i].role == want[i].role);
        CHECK(!req->messages[i].content == !want[i].content);
        CHECK(!want[i].content || strcmp(req->messages[i].content, want[i].content) == 0);
        CHECK(req->messages[i].prefix == (i == 6));
    }
    CHECK(req->messages[3].calls_n == 1);
    CHECK(strcmp(req->messages[3].calls[0].name, "f") == 0);
    CHECK(strcmp(req->messages[3].calls[0].arguments, "{\"x\": 1}") == 0);
    chat_request_free(&req);
    CHECK(!req);
    chat_request_free(&req);
}

static void refuses_messages(void)
{
    static const struct {
        const char *messages, *param;
    } rows[] = {
        {"[]", "messages"},
        {"null", "messages"},
        {"\"hi\"", "messages"},
        {"{}", "messages"},
        {"[1]", "messages[0]"},
        {"[{}]", "messages[0].role"},
        {"[{\"role\":1}]", "messages[0].role"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"function\"}]", "messages[1].role"},
        {"[{\"role\":\"user\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"tool\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":1}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":{}}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":[\"x\"]}]", "messages[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},"
         "{\"type\":\"image_url\"}]}]",
         "messages[0].content[1].type"},
        {"[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]", "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":\"a\",\"prefix\":true}]", "messages[0].prefix"},
        {"[{\"role\":\"assistant\",\"content\":\"a\",\"prefix\":true},"
         "{\"role\":\"user\",\"content\":\"b\"}]",
         "messages[0].prefix"},
        {"[{\"role\":\"assistant\",\"content\":\"a\",\"prefix\":1}]", "messages[0].prefix"},
        {"[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[{}]}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[1]}]", "messages[0].tool_calls[0]"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"x\"}]}]",
         "messages[0].tool_calls[0].type"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{}]}]", "messages[0].tool_calls[0].function"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]",
         "messages[0].tool_calls[0].function.name"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
         "\"arguments\":{}}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_refused_messages(rows[i].messages, rows[i].param);
    check_refused("{\"model\":\"demo\"}", 400, "messages", "required");
}

static void checks_the_model(void)
{
    check_refused("{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}", 400, "model", "demo");
    check_refused("{\"model\":null,\"messages\":[]}", 400, "model", "demo");
    check_refused("{\"model\":7,\"messages\":[]}", 400, "model", "string");
    check_refused("{\"model\":\"gpt\",\"messages\":[]}", 404, "model", "demo");

    struct chat_request *req;
    struct api_error err;
    static const char gpt[] = "{\"model\":\"gpt\"}";
    CHECK(chat_request_parse(gpt, strlen(gpt), &api_check_limits, &req, &err) == -EINVAL);
    CHECK(strcmp(api_error_code(&err), "model_not_found") == 0);
}

// As strings: half a field, so that one row says everything.
static void reads_sampling(void)
{
    struct chat_request *req = parse(HEAD "}");
    struct sampling *s = &req->sampling;
    CHECK(s->temperature == 0.6f && s->top_p == 0.95f && s->top_k == 0 && s->min_p == 0);
    CHECK(s->frequency_penalty == 0 && s->presence_penalty == 0 && s->repetition_penalty == 1);
    CHECK(!s->has_seed && s->n == 1 && s->max_tokens == UINT32_MAX);
    CHECK(!s->logprobs && !s->stream && !s->include_usage && s->stops_n == 0 && s->bias_n == 0);
    CHECK(req->thinking == CHAT_REQUEST_THINKING_DEFAULT && req->add_generation_prompt);
    chat_request_free(&req);

    req = parse_with(
        "\"temperature\":0,\"top_p\":1,\"top_k\":40,\"min_p\":0.05,\"frequency_penalty\":-2,"
        "\"presence_penalty\":2.0,\"repetition_penalty\":1.1,\"seed\":-1,\"n\":3,"
        "\"max_tokens\":5,\"stop\":[\"a\",\"\\n\\n\"],\"logprobs\":true,\"top_logprobs\":20,"
        "\"logprobs_mode\":\"sampled\",\"stream\":true,\"stream_options\":{\"include_usage\":true,"
        "\"include_obfuscation\":false},\"logit_bias\":{\"0\":-100,\"999\":1.5},"
        "\"user\":\"me\",\"unknown\":[{}],\"tool_choice\":\"auto\",\"tools\":[],"
        "\"response_format\":{\"type\":\"text\"},\"parallel_tool_calls\":true");
    s = &req->sampling;
    CHECK(s->temperature == 0 && s->top_p == 1 && s->top_k == 40 && s->min_p == 0.05f);
    CHECK(s->frequency_penalty == -2 && s->presence_penalty == 2 && s->repetition_penalty == 1.1f);
    CHECK(s->has_seed && s->seed == UINT64_MAX && s->n == 3 && s->max_tokens == 5);
    CHECK(s->stops_n == 2 && strcmp(s->stops[0], "a") == 0 && strcmp(s->stops[1], "\n\n") == 0);
    CHECK(s->logprobs && s->top_logprobs == 20 && s->logprobs_sampled);
    CHECK(s->stream && s->include_usage && s->bias_n == 2);
    for (uint32_t i = 0; i < 2; i++)
        CHECK(s->bias[i].bias == (s->bias[i].id == 0 ? -100 : 1.5f));
    chat_request_free(&req);

    req = parse_with("\"temperature\":null,\"stop\":null,\"n\":null,\"seed\":null,\"stream\":null,"
                     "\"stream_options\":null,\"logit_bias\":null,\"max_tokens\":null,"
                     "\"max_completion_tokens\":7,\"top_k\":-1,\"tools\":null,\"tool_choice\":null,"
                     "\"response_format\":null,\"logprobs\":null,\"top_logprobs\":null");
    CHECK(req->sampling.max_tokens == 7 && req->sampling.temperature == 0.6f);
    CHECK(req->sampling.top_k == 0 && !req->sampling.has_seed);
    chat_request_free(&req);

    req = parse_with("\"stop\":\"x\",\"max_tokens\":9007199254740993,\"top_k\":3.0");
    CHECK(req->sampling.stops_n == 1 && req->sampling.max_tokens == UINT32_MAX);
    CHECK(req->sampling.top_k == 3);
    chat_request_free(&req);
    req = parse_with("\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\","
                     "\"11\",\"12\",\"13\",\"14\",\"15\",\"16\"]");
    CHECK(req->sampling.stops_n == 16);
    chat_request_free(&req);
}

static void refuses_fields(void)
{
    static const struct {
        const char *fields, *param;
    } rows[] = {
        {"\"temperature\":2.01", "temperature"},
        {"\"temperature\":-0.01", "temperature"},
        {"\"temperature\":\"hot\"", "temperature"},
        {"\"top_p\":1.5", "top_p"},
        {"\"top_p\":-1", "top_p"},
        {"\"top_k\":-2", "top_k"},
        {"\"top_k\":1.5", "top_k"},
        {"\"min_p\":2", "min_p"},
        {"\"frequency_penalty\":2.5", "frequency_penalty"},
        {"\"presence_penalty\":-2.5", "presence_penalty"},
        {"\"repetition_penalty\":0", "repetition_penalty"},
        {"\"repetition_penalty\":11", "repetition_penalty"},
        {"\"logit_bias\":[]", "logit_bias"},
        {"\"logit_bias\":{\"1\":101}", "logit_bias"},
        {"\"logit_bias\":{\"1\":-100.5}", "logit_bias"},
        {"\"logit_bias\":{\"1\":\"1\"}", "logit_bias"},
        {"\"logit_bias\":{\"1000\":1}", "logit_bias"},
        {"\"logit_bias\":{\"-1\":1}", "logit_bias"},
        {"\"logit_bias\":{\"01\":1}", "logit_bias"},
        {"\"logit_bias\":{\"\":1}", "logit_bias"},
        {"\"logit_bias\":{\"99999999999999999999\":1}", "logit_bias"},
        {"\"n\":0", "n"},
        {"\"n\":129", "n"},
        {"\"n\":\"1\"", "n"},
        {"\"max_tokens\":0", "max_tokens"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_tokens\":1.5", "max_tokens"},
        {"\"max_completion_tokens\":0", "max_completion_tokens"},
        {"\"seed\":\"x\"", "seed"},
        {"\"seed\":1.5", "seed"},
        {"\"stop\":1", "stop"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":[\"\"]", "stop[0]"},
        {"\"stop\":[\"a\",1]", "stop[1]"},
        {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\","
         "\"13\",\"14\",\"15\",\"16\",\"17\"]",
         "stop"},
        {"\"stream\":1", "stream"},
        {"\"stream_options\":true", "stream_options"},
        {"\"stream_options\":{\"include_usage\":1}", "stream_options.include_usage"},
        {"\"logprobs\":1", "logprobs"},
        {"\"top_logprobs\":3", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":-1", "top_logprobs"},
        {"\"logprobs_mode\":\"x\"", "logprobs_mode"},
        {"\"thinking\":true", "thinking"},
        {"\"thinking\":{\"type\":\"maybe\"}", "thinking.type"},
        {"\"chat_template_kwargs\":{\"thinking\":1}", "chat_template_kwargs.thinking"},
        {"\"chat_template_kwargs\":[]", "chat_template_kwargs"},
        {"\"reasoning_effort\":3", "reasoning_effort"},
        {"\"response_format\":\"text\"", "response_format"},
        {"\"response_format\":{}", "response_format.type"},
        {"\"response_format\":{\"type\":\"yaml\"}", "response_format.type"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_refused_with(rows[i].fields, rows[i].param);
}

static void says_what_is_not_supported_yet(void)
{
    static const char tool[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";
    char fields[256];

    check_refused(HEAD ",\"response_format\":{\"type\":\"json_object\"}}", 400, "response_format",
                  "not supported yet");
    check_refused(HEAD ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}}", 400,
                  "response_format", "not supported yet");
    check_refused(HEAD ",\"tool_choice\":\"required\"}", 400, "tool_choice", "not supported yet");
    snprintf(fields, sizeof(fields), "\"tools\":%s", tool);
    check_refused_with(fields, "tools");
    snprintf(fields, sizeof(fields), "\"tools\":%s,\"tool_choice\":\"auto\"", tool);
    check_refused_with(fields, "tools");
    snprintf(fields, sizeof(fields), "\"tools\":%s,\"tool_choice\":\"none\"", tool);
    struct chat_request *req = parse_with(fields);
    chat_request_free(&req);
}

static void reads_thinking(void)
{
    static const struct {
        const char *fields;
        enum chat_request_thinking want;
    } rows[] = {
        {"\"x\":1", CHAT_REQUEST_THINKING_DEFAULT},
        {"\"chat_template_kwargs\":{\"thinking\":true}", CHAT_REQUEST_THINKING_ON},
        {"\"chat_template_kwargs\":{\"enable_thinking\":false}", CHAT_REQUEST_THINKING_OFF},
        {"\"chat_template_kwargs\":{\"enable_thinking\":false,\"thinking\":true}",
         CHAT_REQUEST_THINKING_ON},
        {"\"chat_template_kwargs\":{}", CHAT_REQUEST_THINKING_DEFAULT},
        {"\"thinking\":{\"type\":\"enabled\"}", CHAT_REQUEST_THINKING_ON},
        {"\"thinking\":{\"type\":\"disabled\"}", CHAT_REQUEST_THINKING_OFF},
        {"\"thinking\":{}", CHAT_REQUEST_THINKING_DEFAULT},
        {"\"thinking\":{\"type\":\"disabled\"},\"chat_template_kwargs\":{\"thinking\":true}",
         CHAT_REQUEST_THINKING_ON},
        {"\"reasoning_effort\":\"high\"", CHAT_REQUEST_THINKING_DEFAULT},
        {"\"reasoning_effort\":\"none\"", CHAT_REQUEST_THINKING_OFF},
        {"\"reasoning_effort\":\"none\",\"thinking\":{\"type\":\"enabled\"}",
         CHAT_REQUEST_THINKING_ON},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct chat_request *req = parse_with(rows[i].fields);
        CHECK(req->thinking == rows[i].want);
        chat_request_free(&req);
    }
}

// Malformed JSON or UTF-8 is 400 with its place, never 500.
static void refuses_malformed_bodies(void)
{
    static const struct {
        const char *body, *words;
    } rows[] = {
        {"", "empty"},
        {"{", "line 1"},
        {"{\n \"model\": }", "line 2"},
        {"[]", "object"},
        {"null", "line 1"},
        {"{} x", "line 1"},
        {"{\"model\":\"demo\",\"model\":\"demo\"}", "duplicate"},
        {"{\"model\":\"de\\u0000mo\"}", "\\u0000"},
        {"{\"model\":\"\\ud800\"}", "line 1"},
        {"{\"a\":\"\xff\"}", "byte 6"},
        {"{\"a\":\"\xed\xa0\x80\"}", "byte 6"},
        {"{\"a\":1e999}", "line 1"},
        {"{\"a\":99999999999999999999}", "line 1"},
        {"{\"a\":\"\n\"}", "line 1"},
        {"{\"a\":NaN}", "line 1"},
        {"{'a':1}", "line 1"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_refused(rows[i].body, 400, NULL, rows[i].words);
}

// A body of `n` times `part` between `open` and `close`, refused before memory is spent.
static void check_bomb(const char *open, const char *part, size_t n, const char *close,
                       const char *words)
{
    struct buf b;

    buf_init(&b, 16u << 20);
    buf_puts(&b, open);
    for (size_t i = 0; i < n; i++)
        buf_puts(&b, part);
    buf_puts(&b, close);
    buf_putc(&b, '\0');
    CHECK(buf_error(&b) == 0);
    check_refused(b.data, 400, NULL, words);
    buf_free(&b);
}

static void refuses_bombs(void)
{
    check_bomb("{\"a\":", "[", 100000, "", "nested");
    check_bomb("{\"a\":", "{\"a\":", 100000, "", "nested");
    check_bomb("{\"a\":[", "[],", 2000000, "[]]}", "more than");
    check_bomb("{\"a\":[", "{},", 2000000, "[]]}", "more than");
    check_bomb("{\"a\":[", "1,", 4000000, "1]}", "more than");

    // Brackets in strings are text.
    struct buf b;
    buf_init(&b, 1u << 20);
    buf_puts(&b, "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"\\\"");
    for (int i = 0; i < 100000; i++)
        buf_puts(&b, "[{,");
    buf_puts(&b, "\\\\\"}]}");
    buf_putc(&b, '\0');
    struct chat_request *req = parse(b.data);
    CHECK(strlen(req->messages[0].content) == 300002);
    chat_request_free(&req);
    buf_free(&b);
}

static void reads_apply_template(void)
{
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"add_generation_prompt\":false,"
        "\"chat_template_kwargs\":{\"thinking\":true},\"temperature\":99}";
    static const char other[] = "{\"model\":\"gpt\",\"messages\":[]}";
    struct chat_request *req = NULL;
    struct api_error err;

    CHECK(chat_template_parse(body, strlen(body), &api_check_limits, &req, &err) == 0);
    CHECK(req->messages_n == 1 && !req->add_generation_prompt);
    CHECK(req->thinking == CHAT_REQUEST_THINKING_ON);
    chat_request_free(&req);
    CHECK(chat_template_parse(other, strlen(other), &api_check_limits, &req, &err) < 0);
    CHECK(err.status == 404);
}

int main(void)
{
    reads_messages();
    refuses_messages();
    checks_the_model();
    reads_sampling();
    refuses_fields();
    says_what_is_not_supported_yet();
    reads_thinking();
    refuses_malformed_bodies();
    refuses_bombs();
    reads_apply_template();
    return 0;
}
