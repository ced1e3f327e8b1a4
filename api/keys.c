// SPDX-License-Identifier: MIT
#include "api/keys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_PRINTED_MAX 200 // bytes of a file's name in a sentence

static_assert(KEYS_HASH_BYTES == SHA256_DIGEST_LENGTH, "a hash is a SHA-256");

struct keys {
    struct keys *older; // in a keys_store
    char warning[FAULT_TEXT_MAX];
    uint32_t n;
    struct key key[]; // [n]
};

// A word of a line, not NUL-terminated.
struct word {
    const char *text;
    size_t n;
};

struct line {
    const char *file; // for sentences
    uint32_t number;
    const char *text;
    size_t n;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool word_is(const struct word *word, const char *text)
{
    return word->n == strlen(text) && memcmp(word->text, text, word->n) == 0;
}

static bool word_begins(const struct word *word, const char *text)
{
    return word->n >= strlen(text) && memcmp(word->text, text, strlen(text)) == 0;
}

// No word of the file is ever told: a key that was put in a wrong place would stand in the log.
static int line_fault(const struct line *line, struct fault *fault, const char *words)
{
    return fault_set(fault, EINVAL, "%.*s:%u: %s", NAME_PRINTED_MAX, line->file, line->number,
                     words);
}

// word_next takes the next word of what is left of a line; false at its end or a comment.
static bool word_next(struct line *line, struct word *ret)
{
    while (line->n > 0 && is_blank(*line->text)) {
        line->text++;
        line->n--;
    }
    if (line->n == 0 || *line->text == '#')
        return false;
    *ret = (struct word){.text = line->text};
    while (ret->n < line->n && !is_blank(ret->text[ret->n]))
        ret->n++;
    line->text += ret->n;
    line->n -= ret->n;
    return true;
}

static bool name_valid(const struct word *word)
{
    if (word->n == 0 || word->n >= KEYS_NAME_MAX || !is_alnum(word->text[0]))
        return false;
    for (size_t i = 0; i < word->n; i++)
        if (!is_alnum(word->text[i]) && !memchr("._-@", word->text[i], 4))
            return false;
    return !word_begins(word, "sk-"); // most likely a key that was put in the name's place
}

bool keys_name_valid(const char *name)
{
    return name_valid(&(struct word){.text = name, .n = strlen(name)});
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hash_read(const struct word *word, uint8_t *ret)
{
    if (word->n != (size_t)2 * KEYS_HASH_BYTES)
        return false;
    for (size_t i = 0; i < KEYS_HASH_BYTES; i++) {
        int high = hex_digit(word->text[2 * i]), low = hex_digit(word->text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

// number_read reads digits up to the end of the word.
static bool number_read(const struct word *word, uint32_t max, uint32_t *ret)
{
    uint32_t value = 0;
    if (word->n == 0 || word->n > 9)
        return false;
    for (size_t i = 0; i < word->n; i++) {
        if (!is_digit(word->text[i]))
            return false;
        value = value * 10 + (uint32_t)(word->text[i] - '0');
    }
    *ret = value;
    return value <= max;
}

static bool date_read(const struct word *word, char *ret)
{
    static const char form[] = "0000-00-00";
    uint32_t month = 0, day = 0;

    if (word->n != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < word->n; i++)
        if (form[i] == '0' ? !is_digit(word->text[i]) : word->text[i] != form[i])
            return false;
    number_read(&(struct word){word->text + 5, 2}, 99, &month);
    number_read(&(struct word){word->text + 8, 2}, 99, &day);
    memcpy(ret, word->text, word->n);
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

// rate_read reads "N/min".
static bool rate_read(const struct word *word, uint32_t *ret)
{
    static const char unit[] = "/min";
    size_t unit_n = sizeof(unit) - 1;

    if (word->n < unit_n || memcmp(word->text + word->n - unit_n, unit, unit_n) != 0)
        return false;
    return number_read(&(struct word){word->text, word->n - unit_n}, KEYS_RATE_MAX, ret);
}

// limit_read reads one of the words behind CREATED.
static int limit_read(const struct line *line, const struct word *word, struct key *key,
                      struct fault *fault)
{
    static const char rate[] = "rate=", concurrency[] = "concurrency=";

    if (word_is(word, "disabled")) {
        if (key->disabled)
            return line_fault(line, fault, "disabled is there twice");
        key->disabled = true;
        return 0;
    }
    if (word_begins(word, rate)) {
        struct word value = {word->text + sizeof(rate) - 1, word->n - (sizeof(rate) - 1)};
        if (key->rate != KEYS_DEFAULT)
            return line_fault(line, fault, "rate= is there twice");
        if (!rate_read(&value, &key->rate))
            return line_fault(line, fault, "rate must be rate=N/min with N from 0 to 1000000");
        return 0;
    }
    if (word_begins(word, concurrency)) {
        struct word value = {word->text + sizeof(concurrency) - 1,
                             word->n - (sizeof(concurrency) - 1)};
        if (key->concurrency != KEYS_DEFAULT)
            return line_fault(line, fault, "concurrency= is there twice");
        if (!number_read(&value, KEYS_CONCURRENCY_MAX, &key->concurrency))
            return line_fault(line, fault,
                              "concurrency must be concurrency=N with N from 0 to 65536");
        return 0;
    }
    return line_fault(line, fault,
                      "an unknown word behind the date: rate=N/min, concurrency=N and disabled may "
                      "stand there");
}

// line_read reads a line that is neither empty nor a comment.
//
// name: its first word.  key: all zero.
static int line_read(struct line line, const struct word *name, struct key *key,
                     struct fault *fault)
{
    struct word word;

    key->line = line.number;
    key->rate = key->concurrency = KEYS_DEFAULT;
    if (!name_valid(name))
        return line_fault(&line, fault,
                          "the name must be 1 to 63 letters, digits, '.', '_', '-' or '@', begin "
                          "with a letter or a digit, and not look like a key");
    memcpy(key->name, name->text, name->n);
    if (!word_next(&line, &word) || !hash_read(&word, key->hash))
        return line_fault(
            &line, fault,
            "behind the name must stand the SHA-256 of a key as 64 hex digits 0-9a-f; "
            "make a key with: expertctl key add");
    if (!word_next(&line, &word) || !date_read(&word, key->created))
        return line_fault(&line, fault, "behind the hash must stand a date as 2026-11-23");
    while (word_next(&line, &word)) {
        int err = limit_read(&line, &word, key, fault);
        if (err != 0)
            return err;
    }
    return 0;
}

// key_refuse_twice looks for the name or the hash of a key among those before it.
static int key_refuse_twice(const struct line *line, const struct keys *keys, const struct key *key,
                            struct fault *fault)
{
    for (uint32_t i = 0; i < keys->n; i++) {
        const struct key *other = &keys->key[i];
        if (strcmp(other->name, key->name) == 0)
            return fault_set(fault, EINVAL, "%.*s:%u: there is a key %s in line %u already",
                             NAME_PRINTED_MAX, line->file, line->number, key->name, other->line);
        if (memcmp(other->hash, key->hash, KEYS_HASH_BYTES) == 0)
            return fault_set(fault, EINVAL, "%.*s:%u: %s has the same hash as %s in line %u",
                             NAME_PRINTED_MAX, line->file, line->number, key->name, other->name,
                             other->line);
    }
    return 0;
}

static int line_check(const struct line *line, struct fault *fault)
{
    for (size_t i = 0; i < line->n; i++) {
        unsigned char c = (unsigned char)line->text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return line_fault(line, fault,
                              "a control character (lines end with a line feed alone)");
    }
    return 0;
}

// line_take reads one line into keys, which has place.
static int line_take(struct keys *keys, struct line line, struct fault *fault)
{
    struct word name;
    struct key *key = &keys->key[keys->n];

    int err = line_check(&line, fault);
    if (err != 0 || !word_next(&line, &name))
        return err;
    if (keys->n == KEYS_MAX)
        return line_fault(&line, fault, "more than 1024 keys");
    err = line_read(line, &name, key, fault);
    if (err == 0)
        err = key_refuse_twice(&line, keys, key, fault);
    if (err == 0)
        key->slot = keys->n++;
    return err;
}

// lines_n counts the lines that may hold a key, at most KEYS_MAX.
static uint32_t lines_n(const char *text, size_t n)
{
    uint32_t lines = n > 0;
    for (size_t i = 0; i < n && lines < KEYS_MAX; i++)
        lines += text[i] == '\n';
    return lines;
}

int keys_parse(const char *name, const char *text, size_t n, struct keys **ret, struct fault *fault)
{
    struct line line = {.file = name};
    int err = 0;

    // One more than needed: where the line behind the last key would be read to.
    struct keys *keys =
        calloc(1, sizeof(*keys) + ((size_t)lines_n(text, n) + 1) * sizeof(keys->key[0]));
    if (!keys)
        return fault_set(fault, ENOMEM, "%.*s: no memory for the keys", NAME_PRINTED_MAX, name);
    for (size_t at = 0; err == 0 && at < n; at += line.n + 1) {
        const char *end = memchr(text + at, '\n', n - at);
        line.number++;
        line.text = text + at;
        line.n = end ? (size_t)(end - line.text) : n - at;
        err = line_take(keys, line, fault);
    }
    if (err != 0) {
        keys_destroy(&keys);
        return err;
    }
    *ret = keys;
    return 0;
}

/* ------------------------------------------------------------------ file */

// file_check judges who may read and write the file.
static int file_check(const char *path, const struct stat *st, char *warning, struct fault *fault)
{
    if (!S_ISREG(st->st_mode))
        return fault_set(fault, EINVAL, "%.*s: is no file", NAME_PRINTED_MAX, path);
    if (st->st_mode & S_IWOTH)
        return fault_set(fault, EPERM,
                         "%.*s: everybody can write it, so anybody could make keys: chmod 0640",
                         NAME_PRINTED_MAX, path);
    if (st->st_size > (off_t)KEYS_FILE_BYTES_MAX)
        return fault_set(fault, EFBIG, "%.*s: is larger than %u bytes", NAME_PRINTED_MAX, path,
                         KEYS_FILE_BYTES_MAX);
    if (st->st_mode & S_IROTH)
        snprintf(warning, FAULT_TEXT_MAX,
                 "%.*s: everybody can read the hashes of the keys: chmod 0640 is enough",
                 NAME_PRINTED_MAX, path);
    return 0;
}

// file_read reads up to max bytes.  Returns how many, or -errno.
static ssize_t file_read(int fd, char *text, size_t max)
{
    size_t n = 0;
    while (n < max) {
        ssize_t got = read(fd, text + n, max - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

// file_parse reads an open file.
static int file_parse(const char *path, int fd, struct keys **ret, struct fault *fault)
{
    char warning[FAULT_TEXT_MAX] = "";
    struct stat st;

    if (fstat(fd, &st) != 0)
        return fault_set(fault, errno, "%.*s: cannot be read: %s", NAME_PRINTED_MAX, path,
                         strerror(errno));
    int err = file_check(path, &st, warning, fault);
    if (err != 0)
        return err;
    // It may grow while it is read: one byte more tells.
    char *text = malloc(KEYS_FILE_BYTES_MAX + 1);
    if (!text)
        return fault_set(fault, ENOMEM, "%.*s: no memory to read it", NAME_PRINTED_MAX, path);
    ssize_t n = file_read(fd, text, KEYS_FILE_BYTES_MAX + 1);
    if (n < 0)
        err = fault_set(fault, (int)-n, "%.*s: cannot be read: %s", NAME_PRINTED_MAX, path,
                        strerror((int)-n));
    else if (n > (ssize_t)KEYS_FILE_BYTES_MAX)
        err = fault_set(fault, EFBIG, "%.*s: is larger than %u bytes", NAME_PRINTED_MAX, path,
                        KEYS_FILE_BYTES_MAX);
    else
        err = keys_parse(path, text, (size_t)n, ret, fault);
    free(text);
    if (err == 0)
        memcpy((*ret)->warning, warning, sizeof(warning));
    return err;
}

static const struct key *key_by_name(const struct keys *keys, const char *name)
{
    for (uint32_t i = 0; i < keys->n; i++)
        if (strcmp(keys->key[i].name, name) == 0)
            return &keys->key[i];
    return NULL;
}

// slots_keep gives keys that were there before their old slots, and the others those that are
// free, first of all such as no key had before: there may still be requests that count in them.
static void slots_keep(struct keys *keys, const struct keys *before)
{
    enum { FREE, HAD, TAKEN };
    uint8_t use[KEYS_MAX] = {FREE};
    bool kept[KEYS_MAX] = {false};

    for (uint32_t i = 0; i < before->n; i++)
        use[before->key[i].slot] = HAD;
    for (uint32_t i = 0; i < keys->n; i++) {
        const struct key *old = key_by_name(before, keys->key[i].name);
        if (!old)
            continue;
        keys->key[i].slot = old->slot;
        use[old->slot] = TAKEN;
        kept[i] = true;
    }
    uint8_t want = FREE;
    for (uint32_t i = 0, slot = 0; i < keys->n; i++) {
        if (kept[i])
            continue;
        while (use[slot] != want)
            if (++slot == KEYS_MAX) {
                assert(want == FREE); // there are as many slots as keys
                want = HAD;
                slot = 0;
            }
        keys->key[i].slot = slot;
        use[slot] = TAKEN;
    }
}

int keys_load(const char *path, const struct keys *before, struct keys **ret, struct fault *fault)
{
    struct keys *keys = NULL;

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT)
        return fault_set(fault, ENOENT,
                         "%.*s: there is no such file; make a key with: expertctl key add NAME",
                         NAME_PRINTED_MAX, path);
    if (fd < 0)
        return fault_set(fault, errno, "%.*s: cannot be read: %s", NAME_PRINTED_MAX, path,
                         strerror(errno));
    int err = file_parse(path, fd, &keys, fault);
    close(fd);
    if (err != 0)
        return err;
    if (before)
        slots_keep(keys, before);
    *ret = keys;
    return 0;
}

void keys_destroy(struct keys **keys)
{
    free(*keys);
    *keys = NULL;
}

/* ------------------------------------------------------------------ look */

uint32_t keys_n(const struct keys *keys)
{
    return keys->n;
}

uint32_t keys_usable(const struct keys *keys)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < keys_n(keys); i++)
        n += !keys_at(keys, i)->disabled;
    return n;
}

const struct key *keys_at(const struct keys *keys, uint32_t i)
{
    assert(i < keys->n);
    return &keys->key[i];
}

const char *keys_warning(const struct keys *keys)
{
    return keys->warning;
}

int keys_find(const struct keys *keys, const char *text, size_t n)
{
    uint8_t hash[KEYS_HASH_BYTES];
    uint32_t found = 0; // place + 1

    if (n >= KEYS_TEXT_LONGEST || keys_hash(text, n, hash) != 0)
        return -ENOENT;
    for (uint32_t i = 0; i < keys->n; i++) {
        uint32_t differs = (uint32_t)CRYPTO_memcmp(keys->key[i].hash, hash, sizeof(hash));
        uint32_t equal = (differs - 1) >> 31; // no branch: 1 for 0, 0 for 1..255
        found |= (0u - equal) & (i + 1);
    }
    return found > 0 ? (int)found - 1 : -ENOENT;
}

int keys_judge(const struct keys *keys, const struct http_request *req, const struct key **ret,
               struct api_error *err)
{
    const char *text = http_request_key(req);
    if (!text || text[0] == '\0') {
        api_error_set(err, API_ERROR_KEY, NULL,
                      "an API key is needed: send it as Authorization: Bearer KEY");
        return -EACCES;
    }
    int place = keys_find(keys, text, strlen(text));
    if (place < 0) {
        api_error_set(err, API_ERROR_KEY, NULL, "the API key is not known here");
        return -EACCES;
    }
    const struct key *key = keys_at(keys, (uint32_t)place);
    if (key->disabled) {
        api_error_set(err, API_ERROR_KEY, NULL, "the API key is disabled");
        return -EACCES;
    }
    *ret = key;
    return 0;
}

/* ------------------------------------------------------------------ make */

int keys_hash(const char *text, size_t n, uint8_t *ret)
{
    return SHA256((const unsigned char *)text, n, ret) ? 0 : -ENOMEM;
}

int keys_make(char *ret)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const char head[] = "sk-";
    const size_t end = KEYS_TEXT_MAX - 1;
    uint8_t random[64];
    size_t n = sizeof(head) - 1;

    static_assert(KEYS_TEXT_MAX - 1 - 3 >= 43, "43 digits of base 62 are 256 bits");
    memcpy(ret, head, n);
    while (n < end) {
        ssize_t got = getrandom(random, sizeof(random), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        // 248 is the largest multiple of 62 in a byte: what lies above would favour some digits.
        for (ssize_t i = 0; i < got && n < end; i++)
            if (random[i] < 248)
                ret[n++] = digits[random[i] % 62];
    }
    explicit_bzero(random, sizeof(random));
    ret[end] = '\0';
    return 0;
}

/* ----------------------------------------------------------------- store */

static bool key_same(const struct key *a, const struct key *b)
{
    return strcmp(a->name, b->name) == 0 && memcmp(a->hash, b->hash, sizeof(a->hash)) == 0 &&
           a->disabled == b->disabled && a->rate == b->rate && a->concurrency == b->concurrency &&
           a->slot == b->slot;
}

static bool keys_same(const struct keys *a, const struct keys *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!key_same(&a->key[i], &b->key[i]))
            return false;
    return true;
}

bool keys_store_put(struct keys_store *store, struct keys *keys)
{
    if (store->all && keys_same(store->all, keys)) {
        keys_destroy(&keys);
        return false;
    }
    keys->older = store->all;
    store->all = keys;
    atomic_store_explicit(&store->now, keys, memory_order_release); // pairs with keys_store_now
    return true;
}

const struct keys *keys_store_now(const struct keys_store *store)
{
    return atomic_load_explicit(&store->now, memory_order_acquire); // pairs with keys_store_put
}

void keys_store_fini(struct keys_store *store)
{
    atomic_store_explicit(&store->now, NULL, memory_order_relaxed);
    while (store->all) {
        struct keys *older = store->all->older;
        keys_destroy(&store->all);
        store->all = older;
    }
}
