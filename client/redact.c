// SPDX-License-Identifier: MIT
#include "client/redact.h"

#include "daemon/conf.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define KEY_PREFIX   "sk-"
#define KEY_SHORTEST 8  // bytes behind the prefix: below it is a word
#define KEY_LONG     32 // above it is a key whatever stands in front: "\nsk-..." in JSON
#define HASH_DIGITS  64 // of SHA-256
#define KNOWN_MIN    4
#define USER_MAX     512 // of a URL's user and password

static void blank(char *text, size_t n)
{
    memset(text, '*', n);
}

static bool key_byte(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

// key_length and hex_length count bytes of a kind from here on.
static size_t key_length(const char *text, size_t n)
{
    size_t len = 0;
    while (len < n && key_byte(text[len]))
        len++;
    return len;
}

static size_t hex_length(const char *text, size_t n)
{
    size_t len = 0;
    while (len < n && isxdigit((unsigned char)text[len]))
        len++;
    return len;
}

static bool begins(const char *text, size_t n, const char *word)
{
    size_t len = strlen(word);
    return n >= len && strncasecmp(text, word, len) == 0;
}

static size_t line_length(const char *text, size_t n)
{
    size_t len = 0;
    while (len < n && text[len] != '\n')
        len++;
    return len;
}

// pem_length returns how far a private key goes that begins here: to its end, or the text's.
static size_t pem_length(const char *text, size_t n)
{
    static const char end[] = "-----END ";

    if (!begins(text, n, "-----BEGIN ") || // of every byte, so nothing long before this
        !memmem(text, line_length(text, n), "PRIVATE KEY", 11))
        return 0;
    const char *stop = memmem(text, n, end, sizeof(end) - 1);
    if (!stop)
        return n;
    size_t before = (size_t)(stop - text);
    return before + line_length(stop, n - before);
}

// bearer_length returns the bytes of "Bearer " and the blanks behind it.
static size_t bearer_length(const char *text, size_t n)
{
    size_t len = 6;
    if (!begins(text, n, "bearer") || n == len || (text[len] != ' ' && text[len] != ':'))
        return 0;
    while (len < n && (text[len] == ' ' || text[len] == ':' || text[len] == '"'))
        len++;
    return len;
}

// user_length returns the bytes of "://USER:PASSWORD@" that begin here.
static size_t user_length(const char *text, size_t n)
{
    size_t len = 3;
    if (!begins(text, n, "://"))
        return 0;
    while (len < n && len < USER_MAX && !isspace((unsigned char)text[len]) &&
           !strchr("/\"'<>", text[len])) {
        if (text[len] == '@')
            return len;
        len++;
    }
    return 0;
}

// field_length returns the bytes of a header field that carries a secret, to where that begins.
static size_t field_length(const char *text, size_t n)
{
    static const char *const names[] = {"authorization", "x-api-key", "cookie"};
    static const char *const schemes[] = {"basic ", "digest ", "bearer "};
    size_t len = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && len == 0; i++)
        if (begins(text, n, names[i]))
            len = strlen(names[i]);
    bool mark = false;
    while (len < n && len > 0 && text[len] != '\0' && strchr("\": \t=", text[len])) {
        mark |= text[len] == ':' || text[len] == '=';
        len++;
    }
    if (!mark)
        return 0;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (begins(text + len, n - len, schemes[i]))
            return len + strlen(schemes[i]);
    return len;
}

// secret_at returns the length of a secret that begins here, 0 if none does, and what of its
// beginning may stay.
static size_t secret_at(const char *text, size_t n, bool word, const char *known, size_t *ret_kept)
{
    size_t len;

    *ret_kept = 0;
    if ((len = pem_length(text, n)) > 0)
        return len;
    if (known && strlen(known) >= KNOWN_MIN && begins(text, n, known))
        return strlen(known);
    if ((len = user_length(text, n)) > 0) {
        *ret_kept = 3;
        return len;
    }
    if (word && (len = field_length(text, n)) > 0) {
        while (len < n && (text[len] == ' ' || text[len] == '"'))
            len++;
        *ret_kept = len;
        while (len < n && !isspace((unsigned char)text[len]) && text[len] != '"')
            len++;
        return len;
    }
    if (word && (len = bearer_length(text, n)) > 0) {
        *ret_kept = len;
        while (len < n && !isspace((unsigned char)text[len]) && text[len] != '"')
            len++;
        return len;
    }
    if (begins(text, n, KEY_PREFIX) &&
        (len = key_length(text, n)) >= (word ? KEY_SHORTEST : KEY_LONG) + strlen(KEY_PREFIX)) {
        *ret_kept = strlen(KEY_PREFIX);
        return len;
    }
    if (word && hex_length(text, n) == HASH_DIGITS)
        return HASH_DIGITS;
    return 0;
}

size_t redact_text(char *text, size_t n, const char *known)
{
    size_t found = 0;

    for (size_t at = 0; at < n;) {
        bool word = at == 0 || !isalnum((unsigned char)text[at - 1]);
        size_t kept = 0, len = secret_at(text + at, n - at, word, known, &kept);
        if (len > kept) {
            for (size_t i = kept; i < len; i++) // lines stay lines
                if (text[at + i] != '\n')
                    blank(text + at + i, 1);
            found++;
        }
        at += len > 0 ? len : 1;
    }
    return found;
}

/* ---------------------------------------------------------------- config */

// value_may_stay says whether the value of a key tells no secret.  ret_alone: and nothing that
// stands in lines below it can belong to it.
static bool value_may_stay(const char *key, size_t key_len, const char *value, size_t n,
                           bool *ret_alone)
{
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        if (strlen(opt->key) != key_len || memcmp(opt->key, key, key_len) != 0)
            continue;
        bool file = strcmp(opt->section, "net") == 0 &&
                    (strcmp(opt->key, "keys") == 0 || strcmp(opt->key, "tls_key") == 0);
        *ret_alone = file;
        return !file || n == 0 || value[0] == '/' || value[0] == '.' ||
               begins(value, n, "credential:");
    }
    return false;
}

static bool gap(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

// names_secret says whether a name's last word is one that secrets have.
static bool names_secret(const char *name, size_t n)
{
    static const char *const words[] = {"password", "passwd", "secret", "token", "key"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (n >= strlen(words[i]) && begins(name + n - strlen(words[i]), n, words[i]))
            return true;
    return false;
}

// remark_redact takes away what stands behind " ;" in a value that may stay.
static bool remark_redact(char *value, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (value[i] == ';' && gap(value[i - 1])) {
            blank(value + i + 1, n - i - 1);
            return i + 1 < n;
        }
    return false;
}

// line_redact looks at one line, comments too: a value that was commented out is still a value.
// goes_on: whether the last value was taken away; the lines that are indented below it belong to
// it.
static bool line_redact(char *line, size_t n, bool *goes_on)
{
    size_t first = 0, last = 0, value;
    bool indented = n > 0 && gap(line[0]), comment = false;

    for (; first < n && (line[first] == '#' || line[first] == ';' || gap(line[first])); first++)
        comment |= !gap(line[first]);
    while (last < n && line[last] != '=' && line[last] != ':')
        last++;
    value = last + 1;
    const size_t mark = last < n ? last : 0; // = or :
    if (indented && !comment && *goes_on) {
        blank(line + first, n - first);
        return first < n;
    }
    *goes_on = *goes_on && (comment || first == n);
    if (last >= n || last <= first || line[first] == '[')
        return false;
    while (last > first && gap(line[last - 1]))
        last--;
    while (value < n && gap(line[value]))
        value++;
    bool given = line[mark] == '=' &&
                 ((value == mark + 1 && value < n) || names_secret(line + first, last - first));
    if (comment && !given &&
        (memchr(line + first, ' ', last - first) ||
         (line[mark] == ':' && memchr(line + value, ' ', n - value))))
        return false; // a sentence
    bool alone = false;
    if (value_may_stay(line + first, last - first, line + value, n - value, &alone)) {
        *goes_on |= !comment && alone;
        return remark_redact(line + value, n - value);
    }
    *goes_on |= !comment;
    blank(line + value, n - value);
    return value < n;
}

size_t redact_config(char *text, size_t n)
{
    size_t found = 0;
    bool goes_on = false;

    for (size_t at = 0; at < n;) {
        const char *newline = memchr(text + at, '\n', n - at);
        size_t len = newline ? (size_t)(newline - text) - at : n - at;
        found += line_redact(text + at, len, &goes_on);
        at += len + 1;
    }
    return found;
}
