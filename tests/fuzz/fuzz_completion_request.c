// SPDX-License-Identifier: MIT
// fuzz_completion_request: any body of /v1/completions, /tokenize and /detokenize is a request
// within its limits, or a 400 or 404 that is told in valid JSON.
#include "api/completion.h"
#include "api/tokenize.h"
#include "tests/check.h"
#include "tests/fuzz/fuzz_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct completion_request *req)
{
    CHECK(req->prompts_n >= 1);
    CHECK((uint64_t)req->prompts_n * req->sampling.n <= fuzz_limits.choices_max);
    for (uint32_t i = 0; i < req->prompts_n; i++) {
        const struct completion_prompt *p = &req->prompts[i];
        CHECK(!p->text != !p->ids);
        CHECK(!p->text || utf8_check(p->text, p->text_n, NULL));
        CHECK(!p->ids || p->ids_n > 0);
        for (size_t j = 0; j < p->ids_n; j++)
            CHECK(p->ids[j] < fuzz_limits.vocab_size);
    }
    CHECK(!req->suffix || req->prompts[0].text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct completion_request *req = NULL;
    struct tokenize_request text;
    struct api_error err;
    uint32_t *ids = NULL;
    size_t n = 0;

    if (completion_request_parse((const char *)data, size, &fuzz_limits, &req, &err) == 0) {
        look(req);
        fuzz_sampling(&req->sampling);
        completion_request_free(&req);
    } else {
        fuzz_error(&err);
    }
    if (tokenize_parse((const char *)data, size, &text, &err) == 0) {
        CHECK(strlen(text.content) == text.content_n);
        tokenize_free(&text);
    } else {
        fuzz_error(&err);
    }
    if (detokenize_parse((const char *)data, size, fuzz_limits.vocab_size, &ids, &n, &err) == 0)
        free(ids);
    else
        fuzz_error(&err);
    return 0;
}
