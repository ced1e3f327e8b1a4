// SPDX-License-Identifier: MIT
#include "daemon/conf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONF_FILE_BYTES_MAX (1u << 20)  // a config is a page; this only bounds a mistake
#define CONF_OPTS_MAX       64u         // bits of `seen`
#define READ_SIZE_MIN       (64u << 10) // what struct disk_params takes

static void *opt_field(struct conf *conf, const struct conf_opt *opt)
{
    return (char *)conf + opt->offset;
}

static const void *opt_field_const(const struct conf *conf, const struct conf_opt *opt)
{
    return (const char *)conf + opt->offset;
}

static size_t opt_field_bytes(const struct conf_opt *opt)
{
    static const size_t bytes[CONF_TYPE_COUNT] = {
        [CONF_TEXT] = CONF_TEXT_MAX,
        [CONF_LIST] = CONF_LIST_MAX,
        [CONF_U32] = sizeof(uint32_t),
        [CONF_MODE] = sizeof(uint32_t),
        [CONF_SIZE] = sizeof(struct conf_size),
        [CONF_BYTES] = sizeof(uint64_t),
        [CONF_TIME] = sizeof(uint64_t),
        [CONF_WORD] = sizeof(uint32_t),
    };
    return bytes[opt->type];
}

static const struct conf_opt *opt_find(const char *section, const char *key)
{
    for (uint32_t i = 0; i < conf_opts_n; i++)
        if (strcmp(conf_opts[i].section, section) == 0 && strcmp(conf_opts[i].key, key) == 0)
            return &conf_opts[i];
    return NULL;
}

static bool section_known(const char *section)
{
    for (uint32_t i = 0; i < conf_opts_n; i++)
        if (strcmp(conf_opts[i].section, section) == 0)
            return true;
    return false;
}

// number_parse reads digits and returns what stands behind them, or NULL.
static const char *number_parse(const char *text, unsigned base, uint64_t *ret)
{
    uint64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p < (char)('0' + base); p++) {
        if (value > (UINT64_MAX - 9) / base)
            return NULL;
        value = value * base + (uint64_t)(*p - '0');
    }
    if (p == text)
        return NULL;
    *ret = value;
    return p;
}

struct suffix {
    const char *text;
    uint64_t times;
};

static const struct suffix size_suffixes[] = {
    {"", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}, {NULL, 0},
};
static const struct suffix time_suffixes[] = {
    {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"min", 60000000}, {NULL, 0},
};

// scaled_parse reads a number and one of the suffixes, with or without a space between.
static bool scaled_parse(const char *text, const struct suffix *suffixes, uint64_t *ret)
{
    uint64_t value;
    const char *rest = number_parse(text, 10, &value);
    if (!rest)
        return false;
    while (*rest == ' ')
        rest++;
    for (const struct suffix *s = suffixes; s->text; s++) {
        if (strcmp(rest, s->text) != 0)
            continue;
        if (value > UINT64_MAX / s->times)
            return false;
        *ret = value * s->times;
        return true;
    }
    return false;
}

static const char *const type_example[CONF_TYPE_COUNT] = {
    [CONF_TEXT] = "text",
    [CONF_LIST] = "texts with commas between",
    [CONF_U32] = "a number",
    [CONF_MODE] = "an octal mode as 0660",
    [CONF_SIZE] = "a size as 8M, 24G or 80%",
    [CONF_BYTES] = "a size as 64K, 8M or 24G",
    [CONF_TIME] = "a time as 500ms, 10s or 2min",
    [CONF_WORD] = "one of the words",
};

static int range_fault(const struct conf_opt *opt, const char *value, struct fault *fault)
{
    if (opt->type == CONF_TEXT)
        return fault_set(fault, EINVAL, "[%s] %s: longer than %llu bytes", opt->section, opt->key,
                         (unsigned long long)opt->max);
    if (opt->type == CONF_TIME)
        return fault_set(fault, EINVAL, "[%s] %s = %.60s: must be %llums to %llumin", opt->section,
                         opt->key, value, (unsigned long long)(opt->min / 1000),
                         (unsigned long long)(opt->max / 60000000));
    return fault_set(fault, EINVAL,
                     opt->type == CONF_MODE ? "[%s] %s = %.60s: must be %llo to %llo"
                                            : "[%s] %s = %.60s: must be %llu to %llu",
                     opt->section, opt->key, value, (unsigned long long)opt->min,
                     (unsigned long long)opt->max);
}

static int word_set(const struct conf_opt *opt, const char *value, uint32_t *field,
                    struct fault *fault)
{
    char all[200] = "";
    for (uint32_t i = 0; i < opt->words_n; i++) {
        if (strcmp(opt->words[i], value) == 0) {
            *field = i;
            return 0;
        }
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? ", " : "", opt->words[i]);
    }
    return fault_set(fault, EINVAL, "[%s] %s = %.60s: must be one of %s", opt->section, opt->key,
                     value, all);
}

// text_refuse finds what no text has: quotes would be part of it, and the file of that name is
// nowhere.
static int text_refuse(const struct conf_opt *opt, const char *value, struct fault *fault)
{
    if (*value == '"' || *value == '\'')
        return fault_set(fault, EINVAL, "[%s] %s = %.60s: is written without quotes", opt->section,
                         opt->key, value);
    for (; *value; value++)
        if ((unsigned char)*value < 0x20 || *value == 0x7f)
            return fault_set(fault, EINVAL, "[%s] %s: has a control character", opt->section,
                             opt->key);
    return 0;
}

static int text_set(const struct conf_opt *opt, const char *value, char *field, struct fault *fault)
{
    size_t len = strlen(value);
    if (len > opt->max)
        return range_fault(opt, value, fault);
    int err = text_refuse(opt, value, fault);
    if (err != 0)
        return err;
    memset(field, 0, CONF_TEXT_MAX);
    memcpy(field, value, len);
    return 0;
}

// list_add puts the texts of a value behind those that the list has: no blanks around, none empty.
static int list_add(const struct conf_opt *opt, const char *value, char *field, struct fault *fault)
{
    int err = text_refuse(opt, value, fault);
    if (err != 0)
        return err;
    size_t used = strlen(field), texts = used > 0;
    for (size_t i = 0; i < used; i++)
        texts += field[i] == ',';
    while (*value) {
        size_t len = strcspn(value, ",");
        const char *text = value, *next = value + len + (value[len] == ',');
        for (; len > 0 && *text == ' '; len--)
            text++;
        while (len > 0 && text[len - 1] == ' ')
            len--;
        value = next;
        if (len == 0)
            continue;
        if (texts++ == opt->max)
            return fault_set(fault, EINVAL, "[%s] %s: more than %llu %s", opt->section, opt->key,
                             (unsigned long long)opt->max, opt->unit);
        if (used + (used > 0) + len >= CONF_LIST_MAX)
            return fault_set(fault, EINVAL, "[%s] %s: longer than %u bytes in all", opt->section,
                             opt->key, CONF_LIST_MAX - 1);
        if (used > 0)
            field[used++] = ',';
        memcpy(field + used, text, len);
        used += len;
    }
    return 0;
}

uint32_t conf_list_split(char *list, const char **ret, uint32_t max)
{
    uint32_t n = 0;
    while (*list && n < max) {
        ret[n++] = list;
        list += strcspn(list, ",");
        if (*list)
            *list++ = '\0';
    }
    return n;
}

static bool number_of_type(const struct conf_opt *opt, const char *value, uint64_t *ret)
{
    const char *rest;
    switch (opt->type) {
    case CONF_U32:
        rest = number_parse(value, 10, ret);
        return rest && *rest == '\0';
    case CONF_MODE:
        rest = number_parse(value, 8, ret);
        return rest && *rest == '\0';
    case CONF_SIZE:
    case CONF_BYTES:
        return scaled_parse(value, size_suffixes, ret);
    case CONF_TIME:
        return scaled_parse(value, time_suffixes, ret);
    default:
        return false;
    }
}

// percent_parse reads "80%".
static bool percent_parse(const char *value, uint32_t *ret)
{
    uint64_t percent;
    const char *rest = number_parse(value, 10, &percent);
    if (!rest || strcmp(rest, "%") != 0 || percent < 1 || percent > 100)
        return false;
    *ret = (uint32_t)percent;
    return true;
}

// opt_set: again says that a list goes on.
static int opt_set(struct conf *conf, const struct conf_opt *opt, const char *value, bool again,
                   struct fault *fault)
{
    void *field = opt_field(conf, opt);
    if (opt->type == CONF_LIST && !again)
        memset(field, 0, CONF_LIST_MAX);
    if (opt->type == CONF_LIST)
        return list_add(opt, value, field, fault);
    if (opt->type == CONF_TEXT)
        return text_set(opt, value, field, fault);
    if (opt->type == CONF_WORD)
        return word_set(opt, value, field, fault);

    uint32_t percent;
    if (opt->type == CONF_SIZE && percent_parse(value, &percent)) {
        *(struct conf_size *)field = (struct conf_size){.percent = percent};
        return 0;
    }
    uint64_t number;
    if (!number_of_type(opt, value, &number))
        return fault_set(fault, EINVAL, "[%s] %s = %.60s: must be %s", opt->section, opt->key,
                         value, type_example[opt->type]);
    if (number < opt->min || number > opt->max)
        return range_fault(opt, value, fault);
    if (opt->type == CONF_SIZE)
        *(struct conf_size *)field = (struct conf_size){.bytes = number};
    else if (opt->type == CONF_BYTES || opt->type == CONF_TIME)
        *(uint64_t *)field = number;
    else
        *(uint32_t *)field = (uint32_t)number;
    return 0;
}

void conf_defaults(struct conf *conf)
{
    memset(conf, 0, sizeof(*conf));
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        int err = opt_set(conf, &conf_opts[i], conf_opts[i].fallback, false, NULL);
        assert(err == 0); // the table's own mistake
        (void)err;
    }
}

// assign sets a key.
//
// seen: bit i: conf_opts[i] was set before by the same text; grows.
static int assign(struct conf *conf, const char *section, const char *key, const char *value,
                  uint64_t *seen, struct fault *fault)
{
    const struct conf_opt *opt = opt_find(section, key);
    if (!opt && section[0] == '\0')
        return fault_set(fault, EINVAL, "%.60s stands before the first [section]", key);
    if (!opt && !section_known(section))
        return fault_set(fault, EINVAL, "unknown section [%.60s]", section);
    if (!opt)
        return fault_set(fault, EINVAL, "unknown key %.60s in [%s]; expertd --help lists them all",
                         key, section);
    uint64_t bit = 1ull << (opt - conf_opts);
    bool again = *seen & bit;
    *seen |= bit;
    int err = opt_set(conf, opt, value, again, fault);
    if (err == 0 && again && opt->type != CONF_LIST)
        err = fault_set(fault, EINVAL, "[%s] %s is set a second time", section, key);
    return err;
}

// What inih's callbacks need to know.
struct parse {
    struct conf *conf;
    const char *text;
    size_t n, at;
    int line;       // number of the line that was read last
    int fault_line; // 0: none yet
    uint64_t seen;  // bit i: conf_opts[i] was set by this text
    struct fault first;
};

static void parse_fault(struct parse *p, struct fault *fault)
{
    if (p->fault_line == 0) {
        p->fault_line = p->line;
        p->first = *fault;
    }
}

// parse_line hands one line to inih, as fgets would, but never a part of one.
static char *parse_line(char *out, int out_bytes, void *user)
{
    struct parse *p = user;
    if (p->at >= p->n)
        return NULL;

    const char *start = p->text + p->at;
    const char *newline = memchr(start, '\n', p->n - p->at);
    size_t len = newline ? (size_t)(newline - start) : p->n - p->at;
    p->at += len + (newline ? 1 : 0);
    p->line++;

    struct fault fault = {0};
    if (memchr(start, '\0', len)) {
        fault_set(&fault, EINVAL, "has a zero byte");
        parse_fault(p, &fault);
        len = 0;
    } else if (out_bytes < 2 || len > (size_t)out_bytes - 2) {
        fault_set(&fault, EINVAL, "line longer than %d bytes", out_bytes - 2);
        parse_fault(p, &fault);
        len = 0;
    }
    memcpy(out, start, len);
    out[len] = '\n';
    out[len + 1] = '\0';
    return out;
}

static int parse_value(void *user, const char *section, const char *key, const char *value)
{
    struct parse *p = user;
    struct fault fault = {0};
    int err = assign(p->conf, section, key, value ? value : "", &p->seen, &fault);
    if (err != 0)
        parse_fault(p, &fault);
    return err == 0;
}

int conf_parse(struct conf *conf, const char *name, const char *text, size_t n, struct fault *fault)
{
    assert(conf_opts_n <= CONF_OPTS_MAX);
    struct parse p = {.conf = conf, .text = text, .n = n};
    int syntax_line = ini_parse_stream(parse_line, &p, parse_value, &p);

    // inih reports the first line that it, or parse_value, refused.
    if (syntax_line > 0 && (p.fault_line == 0 || syntax_line < p.fault_line))
        return fault_set(fault, EINVAL, "%s:%d: neither [section] nor key = value", name,
                         syntax_line);
    if (syntax_line < 0)
        return fault_set(fault, ENOMEM, "%s: out of memory", name);
    if (p.fault_line > 0)
        return fault_set(fault, EINVAL, "%s:%d: %s", name, p.fault_line, p.first.text);
    return 0;
}

int conf_load(struct conf *conf, const char *path, struct fault *fault)
{
    int err = 0;
    char *text = NULL;
    size_t n = 0;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fault_set(fault, errno, "%s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        err = fault_set(fault, EISDIR, "%s: not a file", path);
        goto done;
    }
    text = malloc(CONF_FILE_BYTES_MAX + 1);
    if (!text) {
        err = fault_set(fault, ENOMEM, "%s: out of memory", path);
        goto done;
    }
    for (;;) {
        ssize_t got = read(fd, text + n, CONF_FILE_BYTES_MAX + 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            err = fault_set(fault, errno, "%s: %s", path, strerror(errno));
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (err == 0 && n > CONF_FILE_BYTES_MAX)
        err = fault_set(fault, EFBIG, "%s: larger than %u bytes", path, CONF_FILE_BYTES_MAX);
    if (err == 0)
        err = conf_parse(conf, path, text, n, fault);
done:
    free(text);
    close(fd);
    return err;
}

int conf_set(struct conf *conf, const char *assignment, struct fault *fault)
{
    const char *equals = strchr(assignment, '=');
    const char *dot = strchr(assignment, '.');
    char section[64], key[64];
    if (!equals || !dot || dot > equals || (size_t)(dot - assignment) >= sizeof(section) ||
        (size_t)(equals - dot) > sizeof(key))
        return fault_set(fault, EINVAL, "--set %.100s: must be section.key=value", assignment);

    snprintf(section, sizeof(section), "%.*s", (int)(dot - assignment), assignment);
    snprintf(key, sizeof(key), "%.*s", (int)(equals - dot - 1), dot + 1);
    uint64_t seen = 0; // it stands for itself: a list is replaced
    int err = assign(conf, section, key, equals + 1, &seen, fault);
    if (err != 0)
        fault_prefix(fault, "--set");
    return err;
}

static uint64_t size_of(const struct conf_size *size, uint64_t whole)
{
    return size->percent > 0 ? whole / 100 * size->percent : size->bytes;
}

void conf_engine(const struct conf *conf, uint32_t context_max, uint64_t machine_bytes,
                 uint64_t device_bytes, struct engine_params *ret)
{
    *ret = (struct engine_params){
        .device_select = conf->device_select,
        .loads = (enum engine_loads)conf->device_loads,
        .numerics = (enum numerics)conf->model_numerics,
        .kv_type = (enum kv_type)conf->model_kv_type,
        .sequences_max = conf->limits_sequences_max,
        .context_max = context_max,
        .kv_tokens = conf->limits_kv_tokens_max,
        .batch_rows_max = conf->limits_batch_rows_max,
        .memory_max = size_of(&conf->device_memory, device_bytes),
        .mtp = conf->model_mtp != CONF_MTP_OFF,
        .experts = (enum engine_experts)conf->experts_place,
        .slots_ram = size_of(&conf->experts_ram, machine_bytes),
        .slots_vram = size_of(&conf->experts_vram, device_bytes),
        .slots_path = (enum slots_path)conf->experts_path,
    };
}

int conf_kv_check(const struct conf *conf, uint32_t context_max, struct fault *fault)
{
    uint32_t kv = conf->limits_kv_tokens_max;
    if (kv == 0 || kv >= context_max)
        return 0;
    return fault_set(
        fault, EINVAL,
        "[limits] kv_tokens_max = %u does not hold one sequence of %u tokens; raise it, "
        "or lower [model] context_max",
        kv, context_max);
}

int conf_check(const struct conf *conf, struct fault *fault)
{
    if (conf->model_path[0] == '\0')
        return fault_set(fault, EINVAL,
                         "no model: `expertctl setup` writes the configuration, `expertctl demo` "
                         "tries the demo model; or set [model] path, or give --model DIR");
    if (!conf->listen_socket[0] && !conf->listen_loopback[0] && !conf->net_port[0])
        return fault_set(fault, EINVAL,
                         "nothing to listen on: set [listen] socket or loopback, or [net] port");
    if (conf->drives_pack[0] && conf->drives_shards[0])
        return fault_set(
            fault, EINVAL,
            "[drives] pack and shards: experts come from one or the other; remove one");
    if (conf->drives_read_size % DISK_ALIGN != 0 ||
        (conf->drives_read_size > 0 && conf->drives_read_size < READ_SIZE_MIN))
        return fault_set(
            fault, EINVAL,
            "[drives] read_size = %llu: must be 0, or at least %u and a multiple of %u",
            (unsigned long long)conf->drives_read_size, READ_SIZE_MIN, DISK_ALIGN);
    return 0;
}

uint32_t conf_reload(struct conf *conf, const struct conf *fresh,
                     void (*told)(const struct conf_opt *opt))
{
    uint32_t changed = 0;
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        void *field = opt_field(conf, opt);
        const void *fresh_field = opt_field_const(fresh, opt);
        if (memcmp(field, fresh_field, opt_field_bytes(opt)) == 0)
            continue;
        if (opt->reloadable) {
            memcpy(field, fresh_field, opt_field_bytes(opt));
            changed++;
        } else if (told) {
            told(opt);
        }
    }
    return changed;
}
