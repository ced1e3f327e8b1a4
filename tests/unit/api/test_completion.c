// SPDX-License-Identifier: MIT
#include "api/completion.h"

#include "tests/unit/api/api_check.h"

#define HEAD "{\"model\":\"demo\",\"prompt\":"

static struct completion_request *parse(const char *body)
{
    struct completion_request *req = NULL;
    struct api_error err;

    if (completion_request_parse(body, strlen(body), &api_check_limits, &req, &err)) {
        fprintf(stderr, "refused: %s\n%s\n", err.message, body);
        exit(1);
    }
    return req;
}

static void reads_prompts(void)
{
    struct completion_request *req = parse(HEAD "\"a\\n\xe4\xb8\xad\"}");
    CHECK(req->prompts_n == 1 && req->prompts[0].text_n == 5 && req->prompts[0].ids_n == 0);
    CHECK(strcmp(req->prompts[0].text, "a\n\xe4\xb8\xad") == 0);
    CHECK(req->sampling.max_tokens == 16 && !req->echo && !req->suffix);
    CHECK(!req->sampling.logprobs);
    completion_request_free(&req);

    req = parse(HEAD "\"\"}"); // BOS alone
    CHECK(req->prompts_n == 1 && req->prompts[0].text && req->prompts[0].text_n == 0);
    completion_request_free(&req);

    req = parse(HEAD "[\"a\",\"b\"],\"n\":2,\"echo\":true,\"logprobs\":0}");
    CHECK(req->prompts_n == 2 && strcmp(req->prompts[1].text, "b") == 0);
    CHECK(req->echo && req->sampling.logprobs && req->sampling.top_logprobs == 0);
    completion_request_free(&req);

    req = parse(HEAD "[0,999,3],\"max_tokens\":3,\"logprobs\":20,\"best_of\":1}");
    CHECK(req->prompts_n == 1 && !req->prompts[0].text && req->prompts[0].ids_n == 3);
    CHECK(req->prompts[0].ids[1] == 999 && req->sampling.top_logprobs == 20);
    completion_request_free(&req);

    req = parse(HEAD "[[1],[2,3]],\"suffix\":null}");
    CHECK(req->prompts_n == 2 && req->prompts[1].ids_n == 2 && req->prompts[1].ids[1] == 3);
    completion_request_free(&req);

    req = parse(HEAD "\"a\",\"suffix\":\"b\"}");
    CHECK(strcmp(req->suffix, "b") == 0);
    completion_request_free(&req);
}

static void refuses(void)
{
    static const struct {
        const char *rest, *param;
    } rows[] = {
        {"null}", "prompt"},
        {"[]}", "prompt"},
        {"{}}", "prompt"},
        {"1}", "prompt"},
        {"true}", "prompt"},
        {"[null]}", "prompt"},
        {"[1,\"a\"]}", "prompt[1]"},
        {"[\"a\",1]}", "prompt[1]"},
        {"[\"a\",[1]]}", "prompt[1]"},
        {"[[1],[]]}", "prompt[1]"},
        {"[[]]}", "prompt[0]"},
        {"[1000]}", "prompt[0]"},
        {"[-1]}", "prompt[0]"},
        {"[1.5]}", "prompt[0]"},
        {"[[1],[2,1000]]}", "prompt[1][1]"},
        {"\"a\",\"logprobs\":21}", "logprobs"},
        {"\"a\",\"logprobs\":-1}", "logprobs"},
        {"\"a\",\"logprobs\":true}", "logprobs"},
        {"\"a\",\"best_of\":2}", "best_of"},
        {"\"a\",\"best_of\":0}", "best_of"},
        {"\"a\",\"n\":0}", "n"},
        {"[\"a\",\"b\"],\"n\":65}", "n"},
        {"\"a\",\"max_tokens\":0}", "max_tokens"},
        {"\"a\",\"echo\":1}", "echo"},
        {"\"a\",\"suffix\":1}", "suffix"},
        {"[1],\"suffix\":\"b\"}", "suffix"},
        {"\"a\",\"suffix\":\"b\",\"echo\":true}", "suffix"},
        {"\"a\",\"temperature\":3}", "temperature"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct completion_request *req = NULL;
        struct api_error err;
        char body[256];
        snprintf(body, sizeof(body), HEAD "%s", rows[i].rest);
        int got = completion_request_parse(body, strlen(body), &api_check_limits, &req, &err);
        if (got >= 0 || err.status != 400 || strcmp(err.param, rows[i].param) != 0) {
            fprintf(stderr, "%s -> %d, param %s\n", body, got, err.param);
            exit(1);
        }
    }
}

static void bounds_the_number_of_prompts(void)
{
    struct completion_request *req = NULL;
    struct api_error err;
    struct buf b;

    buf_init(&b, 1 << 16);
    for (unsigned beyond = 0; beyond < 2; beyond++) {
        buf_clear(&b);
        buf_puts(&b, HEAD "[\"\"");
        for (unsigned i = 1; i < SAMPLING_CHOICES_MAX + beyond; i++)
            buf_puts(&b, ",\"\"");
        buf_puts(&b, "]}");
        int got = completion_request_parse(b.data, b.n, &api_check_limits, &req, &err);
        CHECK((got < 0) == (beyond == 1));
        completion_request_free(&req);
    }
    buf_free(&b);
}

int main(void)
{
    reads_prompts();
    refuses();
    bounds_the_number_of_prompts();
    return 0;
}
