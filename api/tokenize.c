// SPDX-License-Identifier: MIT
#include "api/tokenize.h"

#include "api/utf8.h"

int tokenize_parse(const char *body, size_t n, struct tokenize_request *ret, struct api_error *err)
{
    struct tokenize_request req = {.parse_special = true};
    struct body_at top = {NULL, ""};

    int result = body_load(body, n, &req.root, err);
    if (result)
        return result;
    top.object = req.root;
    if ((result = body_text(top, "content", &req.content, err)) < 0 ||
        (result = body_bool(top, "add_special", &req.add_special, err)) < 0 ||
        (result = body_bool(top, "parse_special", &req.parse_special, err)) < 0 ||
        (result = body_bool(top, "with_pieces", &req.with_pieces, err)) < 0)
        goto fail;
    if (!req.content) {
        result = body_fault(err, API_ERROR_MISSING, top, "content", "is required");
        goto fail;
    }
    req.content_n = json_string_length(json_object_get(req.root, "content"));
    *ret = req;
    return 0;

fail:
    tokenize_free(&req);
    return result;
}

void tokenize_free(struct tokenize_request *req)
{
    json_decref(req->root);
    req->root = NULL;
}

static void put_piece(struct buf *out, uint32_t id, tokenize_bytes_fn *bytes_of, void *user)
{
    size_t n;
    const char *bytes = bytes_of(user, id, &n);

    buf_puts(out, "{\"id\":");
    buf_u64(out, id);
    buf_puts(out, ",\"piece\":");
    if (n == 0 || utf8_check(bytes, n, NULL)) {
        buf_json_string(out, bytes, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            buf_putc(out, i == 0 ? '[' : ',');
            buf_u64(out, (unsigned char)bytes[i]);
        }
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

void tokenize_write(struct buf *out, const uint32_t *ids, size_t n, tokenize_bytes_fn *bytes_of,
                    void *user)
{
    buf_puts(out, "{\"tokens\":[");
    for (size_t i = 0; i < n && !buf_error(out); i++) {
        if (i > 0)
            buf_putc(out, ',');
        if (bytes_of)
            put_piece(out, ids[i], bytes_of, user);
        else
            buf_u64(out, ids[i]);
    }
    buf_puts(out, "]}");
}

int detokenize_parse(const char *body, size_t n, uint32_t vocab_size, uint32_t **ret_ids,
                     size_t *ret_n, struct api_error *err)
{
    struct body_at top = {NULL, ""};
    const json_t *tokens = NULL;
    json_t *root;

    int result = body_load(body, n, &root, err);
    if (result)
        return result;
    top.object = root;
    result = body_array(top, "tokens", &tokens, err);
    if (result == 0)
        result = body_fault(err, API_ERROR_MISSING, top, "tokens", "is required");
    else if (result > 0)
        result = body_token_ids(tokens, vocab_size, "tokens", ret_ids, ret_n, err);
    json_decref(root);
    return result;
}

static void write_text(struct buf *out, const char *name, const char *text, size_t n)
{
    buf_puts(out, "{");
    buf_json_text(out, name);
    buf_putc(out, ':');
    buf_json_string(out, text, n);
    buf_putc(out, '}');
}

void detokenize_write(struct buf *out, const char *text, size_t n)
{
    write_text(out, "content", text, n);
}

void apply_template_write(struct buf *out, const char *prompt, size_t n)
{
    write_text(out, "prompt", prompt, n);
}
