// SPDX-License-Identifier: MIT
// fuzz_chat_request: any body of /v1/chat/completions and /apply-template is a request within its
// limits, or a 400 or 404 that is told in valid JSON.
#include "api/chat.h"
#include "tests/check.h"
#include "tests/fuzz/fuzz_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct chat_request *req)
{
    CHECK(req->messages_n >= 1 && req->messages);
    for (uint32_t i = 0; i < req->messages_n; i++) {
        const struct chat_request_message *m = &req->messages[i];
        CHECK(m->role < CHAT_REQUEST_ROLE_COUNT);
        CHECK(m->content || m->role == CHAT_REQUEST_ASSISTANT);
        CHECK(!m->content || utf8_check(m->content, strlen(m->content), NULL));
        CHECK(!m->prefix || i + 1 == req->messages_n);
        for (uint32_t j = 0; j < m->calls_n; j++)
            CHECK(m->calls[j].name && m->calls[j].name[0] && m->calls[j].arguments);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chat_request *req = NULL;
    struct api_error err;

    if (chat_request_parse((const char *)data, size, &fuzz_limits, &req, &err) == 0) {
        look(req);
        fuzz_sampling(&req->sampling);
        chat_request_free(&req);
    } else {
        fuzz_error(&err);
    }
    if (chat_template_parse((const char *)data, size, &fuzz_limits, &req, &err) == 0) {
        look(req);
        chat_request_free(&req);
    } else {
        fuzz_error(&err);
    }
    return 0;
}
