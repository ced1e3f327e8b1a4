// SPDX-License-Identifier: MIT
#include "model/tokenizer_load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// DeepSeek's tokenizer.json has 7.8 MB, the largest known ones some 30; parsed, a file takes about
// ten times its size.
#define FILE_BYTES_MAX (64u << 20)

// ---- files ----

static int read_all(int fd, char *buf, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t got = read(fd, buf + n, len - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        n += (size_t)got;
    }
    return 0;
}

// Reads DIR/NAME whole, with a NUL behind it.  -ENOENT leaves no words: the file may be optional.
static int read_file(const char *dir, const char *name, char **ret, size_t *ret_len,
                     struct fault *fault)
{
    struct stat st;
    char *path = NULL, *text = NULL;
    int err = 0;

    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return fault_set(fault, ENOMEM, "no memory to read %s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not stop us
    if (fd < 0 || fstat(fd, &st) < 0) {
        err = errno == ENOENT ? -ENOENT : fault_set(fault, errno, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
        err = fault_set(fault, EINVAL, "%s is not a file of at most %u MiB", path,
                        FILE_BYTES_MAX >> 20);
        goto out;
    }
    text = malloc((size_t)st.st_size + 1);
    err = text ? read_all(fd, text, (size_t)st.st_size) : -ENOMEM;
    if (err) {
        fault_set(fault, -err, "%s cannot be read: %s", path, strerror(-err));
        goto out;
    }
    text[st.st_size] = '\0';
    *ret_len = (size_t)st.st_size;
    *ret = text;
    text = NULL;
out:
    if (fd >= 0)
        close(fd);
    free(text);
    free(path);
    return err;
}

static json_t *parse(const char *text, size_t len, struct fault *fault)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        fault_set(fault, EINVAL, "line %d, column %d: %.150s", error.line, error.column,
                  error.text);
    else if (!json_is_object(root))
        fault_set(fault, EINVAL, "is not a JSON object");
    else
        return root;
    json_decref(root);
    return NULL;
}

// ---- added tokens ----

// Role, think, tool, fim and search markers of every known family are written <...>; the others
// that must not show are marked special.
static bool is_control(const struct added_source *token)
{
    return token->special ||
           (token->len > 2 && token->text[0] == '<' && token->text[token->len - 1] == '>');
}

static int added_push(struct tokenizer *tok, const struct added_source *token)
{
    char *copy = malloc(token->len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, token->text, token->len);
    copy[token->len] = '\0';
    char **grown = reallocarray(tok->added_text, tok->added_n + 1, sizeof(*grown));
    if (!grown) {
        free(copy);
        return -ENOMEM;
    }
    tok->added_text = grown;
    tok->added_text[tok->added_n++] = copy;

    const struct added_token entry = {copy, (uint32_t)token->len, token->id};
    int err = added_set_push(&tok->all, entry);
    if (!err)
        err = added_set_push(token->normalized ? &tok->normal : &tok->raw, entry);
    return err;
}

static int kind_reserve(struct tokenizer *tok, uint32_t ids_n)
{
    if (ids_n <= tok->kind_n)
        return 0;
    uint32_t next = ids_n * 2 < 1024 ? 1024 : ids_n * 2;
    uint8_t *grown = realloc(tok->kind, next);
    if (!grown)
        return -ENOMEM;
    memset(grown + tok->kind_n, 0, next - tok->kind_n);
    tok->kind = grown;
    tok->kind_n = next;
    return 0;
}

int tokenizer_load_added(struct tokenizer *tok, struct added_source token, struct fault *fault)
{
    int err;

    if (token.len == 0 || token.len > 4096)
        return fault_set(fault, EINVAL, "the added token %u has no text, or more than 4096 bytes",
                         token.id);
    if (token.id >= BPE_IDS_MAX)
        return fault_set(fault, EINVAL, "the added token %.80s has the id %u, above %u", token.text,
                         token.id, BPE_IDS_MAX);
    if (token.id < tok->kind_n && tok->kind[token.id])
        return fault_set(fault, EINVAL, "two added tokens have the id %u", token.id);
    err = added_push(tok, &token);
    if (!err)
        err = kind_reserve(tok, token.id + 1);
    if (err)
        return fault_set(fault, -err, "no memory for the added tokens");
    tok->kind[token.id] = (uint8_t)(TOKEN_ADDED | (token.special ? TOKEN_SPECIAL : 0) |
                                    (is_control(&token) ? TOKEN_CONTROL : 0));
    return 0;
}

// Once the vocabulary is there: gives the added tokens that are none of its words their bytes.
static int added_finish(struct tokenizer *tok, struct fault *fault)
{
    if (added_set_sort(&tok->all) || added_set_sort(&tok->raw) || added_set_sort(&tok->normal))
        return fault_set(fault, EINVAL, "two added tokens have the same text");
    for (uint32_t i = 0; i < tok->all.n; i++) {
        const struct added_token *t = &tok->all.tokens[i];
        int err = bpe_token_add(tok->bpe, t->id, t->text, t->len, false);
        if (err && err != -EEXIST)
            return fault_set(fault, -err, "no memory for the added tokens");
    }
    if (kind_reserve(tok, bpe_vocab(tok->bpe)))
        return fault_set(fault, ENOMEM, "no memory for the vocabulary");
    return 0;
}

// ---- tokenizer_config.json ----

// A token is written as its text or as an object with "content".
static uint32_t config_token(const struct tokenizer *tok, const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    if (!json_is_string(value))
        return TOKEN_NONE;
    const struct added_token *found =
        added_set_get(&tok->all, json_string_value(value), json_string_length(value));
    return found ? found->id : TOKEN_NONE;
}

// chat_template is a string, or a list of {name, template}; then the one named "default" counts.
static const char *config_template(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template"), *item;
    size_t i;

    if (!json_is_array(value))
        return json_string_value(value);
    json_array_foreach(value, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(item, "template"));
    }
    return NULL;
}

static int apply_config(struct tokenizer *tok, const char *dir, const json_t *config,
                        struct fault *fault)
{
    size_t len;

    tok->bos = config_token(tok, config, "bos_token");
    tok->eos = config_token(tok, config, "eos_token");
    tok->add_bos = !json_is_false(json_object_get(config, "add_bos_token"));
    int err = read_file(dir, "chat_template.jinja", &tok->chat_template, &len, fault);
    if (err != -ENOENT)
        return err;
    const char *text = config_template(config);
    if (!text)
        return 0;
    tok->chat_template = strdup(text);
    return tok->chat_template ? 0 : fault_set(fault, ENOMEM, "no memory for the chat template");
}

// ---- all of it ----

static int load_config(const char *dir, json_t **ret, struct fault *fault)
{
    char *text = NULL;
    size_t len = 0;

    int err = read_file(dir, "tokenizer_config.json", &text, &len, fault);
    if (err == -ENOENT) {
        *ret = json_object();
        return *ret ? 0 : fault_set(fault, ENOMEM, "no memory for the tokenizer");
    }
    if (err)
        return err;
    *ret = parse(text, len, fault);
    free(text);
    if (*ret)
        return 0;
    fault_prefix(fault, "%s/tokenizer_config.json", dir);
    return -EINVAL;
}

int tokenizer_load_text(struct tokenizer *tok, const char *text, size_t len, bool tiktoken,
                        const json_t *config, struct fault *fault)
{
    if (bpe_create(&tok->bpe))
        return fault_set(fault, ENOMEM, "no memory for the tokenizer");
    tok->bos = tok->eos = TOKEN_NONE;
    int err = tiktoken ? tokenizer_load_tiktoken(tok, text, len, config, fault)
                       : tokenizer_load_json(tok, text, len, fault);
    return err ? err : added_finish(tok, fault);
}

static int load_vocabulary(const char *dir, struct tokenizer *tok, const json_t *config,
                           struct fault *fault)
{
    static const char *const names[] = {"tokenizer.json", "tiktoken.model"};
    char *text = NULL;
    size_t len = 0, which = 0;

    int err = read_file(dir, names[which], &text, &len, fault);
    if (err == -ENOENT)
        err = read_file(dir, names[++which], &text, &len, fault);
    if (err == -ENOENT)
        return fault_set(fault, ENOENT,
                         "%s has neither tokenizer.json nor tiktoken.model: without one of them "
                         "text cannot become tokens",
                         dir);
    if (err)
        return err;
    err = tokenizer_load_text(tok, text, len, which == 1, config, fault);
    free(text);
    if (err)
        fault_prefix(fault, "%s/%s", dir, names[which]);
    return err;
}

int tokenizer_load(const char *dir, struct tokenizer *tok, struct fault *fault)
{
    json_t *config = NULL;

    int err = load_config(dir, &config, fault);
    if (!err)
        err = load_vocabulary(dir, tok, config, fault);
    if (!err)
        err = apply_config(tok, dir, config, fault);
    json_decref(config);
    return err;
}
