// SPDX-License-Identifier: MIT
// conf: defaults, every type of value, every kind of mistake with its line, reload, and that the
// committed etc/expertd.conf and expertd.conf(5) are what the table prints.
#include "daemon/conf.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

static struct conf conf_of(const char *text)
{
    struct conf conf;
    struct fault fault = {0};
    conf_defaults(&conf);
    int err = conf_parse(&conf, "test", text, strlen(text), &fault);
    if (err != 0)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    return conf;
}

static void check_refused(const char *text, const char *sentence)
{
    struct conf conf;
    struct fault fault = {0};
    conf_defaults(&conf);
    CHECK(conf_parse(&conf, "test", text, strlen(text), &fault) == -EINVAL);
    if (!strstr(fault.text, sentence))
        fprintf(stderr, "said \"%s\", not \"%s\"\n", fault.text, sentence);
    CHECK(strstr(fault.text, sentence));
}

static void test_values(void)
{
    struct conf conf = conf_of("");
    CHECK(strcmp(conf.listen_socket, "/run/expertd/api.sock") == 0);
    CHECK(conf.listen_socket_mode == 0660);
    CHECK(conf.limits_body_bytes_max == 8u << 20);
    CHECK(conf.limits_header_timeout == 10000000 && conf.limits_idle_timeout == 75000000);
    CHECK(conf.device_memory.bytes == 0 && conf.device_memory.percent == 0);

    conf = conf_of("; comment\n# comment\n\n[model]\npath = /a b/c ; why\nnumerics=official-fp8\n"
                   "kv_type: f32\nmtp = on\ntemplate = r1-0528\r\n"
                   "[device]\nmemory = 80%\n[limits]\nbody_bytes_max = 3 M\n"
                   "header_timeout = 1500ms\nidle_timeout=2min\n[listen]\nsocket_mode = 600\n"
                   "loopback =\n[log]\nlevel = debug");
    CHECK(strcmp(conf.model_path, "/a b/c") == 0);
    CHECK(conf.model_numerics == NUMERICS_OFFICIAL_FP8 && conf.model_kv_type == KV_F32);
    CHECK(conf.model_mtp == CONF_MTP_ON && conf.model_template == CONF_TEMPLATE_R1_0528);
    CHECK(conf.device_memory.percent == 80 && conf.device_memory.bytes == 0);
    CHECK(conf.limits_body_bytes_max == 3u << 20);
    CHECK(conf.limits_header_timeout == 1500000 && conf.limits_idle_timeout == 120000000);
    CHECK(conf.listen_socket_mode == 0600 && conf.listen_loopback[0] == '\0');
    CHECK(conf.log_level == LOG_LEVEL_DEBUG);

    CHECK(conf.experts_place == ENGINE_EXPERTS_AUTO && conf.experts_path == SLOTS_PATH_AUTO);
    CHECK(conf.experts_ram.bytes == 0 && conf.experts_vram.percent == 0);
    CHECK(conf.experts_verify == STREAM_VERIFY_FIRST);
    CHECK(conf.experts_prefetch == STREAM_PREFETCH_AUTO);
    CHECK(conf.drives_engine == DISK_ENGINE_AUTO && conf.drives_timeout == 30000000);
    CHECK(conf.drives_queue_depth == 0 && conf.drives_read_size == 0);
    CHECK(conf.drives_pack[0] == '\0' && conf.drives_shards[0] == '\0');

    conf = conf_of("[experts]\nplace = slots\npath = staging\nram = 60%\nvram = 20G\n"
                   "verify = always\nprefetch = off\n[drives]\nengine = pread\n"
                   "queue_depth = 48\nread_size = 2M\ntimeout = 1500ms\n");
    CHECK(conf.experts_place == ENGINE_EXPERTS_SLOTS && conf.experts_path == SLOTS_PATH_STAGING);
    CHECK(conf.experts_ram.percent == 60 && conf.experts_vram.bytes == 20ull << 30);
    CHECK(conf.experts_verify == STREAM_VERIFY_ALWAYS);
    CHECK(conf.experts_prefetch == STREAM_PREFETCH_OFF);
    CHECK(conf.drives_engine == DISK_ENGINE_PREAD && conf.drives_queue_depth == 48);
    CHECK(conf.drives_read_size == 2u << 20 && conf.drives_timeout == 1500000);

    conf = conf_of("[device]\nmemory = 24G\n");
    CHECK(conf.device_memory.bytes == 24ull << 30);
}

static void check_list(char *list, uint32_t n, const char *const *want)
{
    const char *got[STREAM_DIRS_MAX];
    CHECK(conf_list_split(list, got, STREAM_DIRS_MAX) == n);
    for (uint32_t i = 0; i < n; i++)
        CHECK(strcmp(got[i], want[i]) == 0);
}

static void test_lists(void)
{
    struct conf conf = conf_of("[drives]\nshards =\n");
    check_list(conf.drives_shards, 0, NULL);
    conf = conf_of("[drives]\nshards = /a b/c\n");
    check_list(conf.drives_shards, 1, (const char *const[]){"/a b/c"});
    // Commas, blanks and empty texts; a key again and a line that goes on add up.
    conf = conf_of("[drives]\nshards = /a ,, /b b,\nshards = /c\n  /d, /e\npack = /p\n");
    check_list(conf.drives_shards, 5, (const char *const[]){"/a", "/b b", "/c", "/d", "/e"});
    check_list(conf.drives_pack, 1, (const char *const[]){"/p"});

    // What is set later, here by --set, replaces the list.
    struct fault fault;
    conf = conf_of("[drives]\nshards = /a\nshards = /b\n");
    CHECK(conf_set(&conf, "drives.shards=/c,/d", &fault) == 0);
    check_list(conf.drives_shards, 2, (const char *const[]){"/c", "/d"});
    CHECK(conf_set(&conf, "drives.shards=", &fault) == 0);
    CHECK(conf.drives_shards[0] == '\0');

    // As many and as long as there may be.
    char text[STREAM_DIRS_MAX * 200] = "[drives]\n";
    size_t used = strlen(text);
    for (uint32_t i = 0; i < STREAM_DIRS_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "pack = %0180u\n", i);
    conf = conf_of(text);
    const char *got[STREAM_DIRS_MAX];
    CHECK(conf_list_split(conf.drives_pack, got, STREAM_DIRS_MAX) == STREAM_DIRS_MAX);
    CHECK(strlen(got[STREAM_DIRS_MAX - 1]) == 180);
    check_refused("[drives]\npack = 1,2,3,4,5,6,7,8\npack = 9\n",
                  "test:3: [drives] pack: more than 8 directories");
    check_refused("[drives]\npack = a\tb\n", "control character");
    char longest[2 * CONF_LIST_MAX];
    snprintf(longest, sizeof(longest), "drives.pack=%0*u", (int)CONF_LIST_MAX - 1, 1);
    CHECK(conf_set(&conf, longest, &fault) == 0);
    snprintf(longest, sizeof(longest), "drives.pack=%0*u", (int)CONF_LIST_MAX, 1);
    CHECK(conf_set(&conf, longest, &fault) == -EINVAL && strstr(fault.text, "longer than 1535"));
}

static void test_mistakes(void)
{
    check_refused("[model]\npaht = x\n", "test:2: unknown key paht in [model]");
    check_refused("\n\n[modle]\npath = x\n", "test:4: unknown section [modle]");
    check_refused("path = x\n", "test:1: path stands before the first [section]");
    check_refused("[model]\npath\n", "test:2: neither");
    check_refused("[model\npath = x\n", "test:1: neither");
    check_refused("[limits]\nrequests_max = 0\n",
                  "test:2: [limits] requests_max = 0: must be 1 to");
    check_refused("[limits]\nrequests_max = 4097\n", "must be 1 to 4096");
    check_refused("[limits]\nrequests_max = 12x\n", "must be a number");
    check_refused("[limits]\nrequests_max = -1\n", "must be a number");
    check_refused("[limits]\nrequests_max = 99999999999999999999999\n", "must be a number");
    check_refused("[limits]\nrequests_max =\n", "must be a number");
    check_refused("[limits]\nbody_bytes_max = 8Q\n", "must be a size");
    check_refused("[limits]\nbody_bytes_max = 80%\n", "must be a size");
    check_refused("[limits]\nbody_bytes_max = 99999999999999T\n", "must be a size");
    check_refused("[limits]\nbody_bytes_max = 1T\n", "must be 1024 to");
    check_refused("[device]\nmemory = 101%\n", "must be a size");
    check_refused("[limits]\nidle_timeout = 10\n", "must be a time");
    check_refused("[limits]\nidle_timeout = 1us\n", "must be 100ms to 1440min");
    check_refused("[listen]\nsocket_mode = 0888\n", "must be an octal");
    check_refused("[listen]\nsocket_mode = 7777\n", "must be 0 to 777");
    check_refused("[model]\nkv_type = f64\n", "must be one of f16, f32");
    check_refused("[model]\nmtp = on\nmtp = off\n", "test:3: [model] mtp is set a second time");
    check_refused("[model]\nmtp = on\n  off\n", "test:3: [model] mtp is set a second time");
    check_refused("[experts]\nplace = disk\n", "must be one of auto, resident, slots");
    check_refused("[experts]\npath = copy\n", "must be one of auto, import, staging");
    check_refused("[experts]\nram = much\n", "must be a size");
    check_refused("[experts]\nram = 0%\n", "must be a size");
    check_refused("[experts]\nvram = 65T\n", "must be 0 to 70368744177664");
    check_refused("[experts]\nverify = on\n", "must be one of first, always, off");
    check_refused("[experts]\nprefetch = yes\n", "must be one of auto, on, off");
    check_refused("[drives]\nengine = uring\n", "must be one of auto, io_uring, pread");
    check_refused("[drives]\nqueue_depth = 513\n", "must be 0 to 512");
    check_refused("[drives]\nread_size = 17M\n", "must be 0 to 16777216");
    check_refused("[drives]\ntimeout = 1ms\n", "must be 10ms to 60min");
    check_refused("[drives]\ntimeout = 2min\ntimeout = 1min\n", "timeout is set a second time");
    check_refused("[a]\n[b\n[model]\nmtp = 1\n", "test:2: neither"); // the first mistake counts

    char text[400];
    snprintf(text, sizeof(text), "[model]\npath = %0300d\n", 1);
    check_refused(text, "test:2: line longer than");
    snprintf(text, sizeof(text), "[listen]\nsocket = /%0107d\n", 1);
    check_refused(text, "longer than 107 bytes");
    snprintf(text, sizeof(text), "[model]\npath = a\tb\n");
    check_refused(text, "control character");
    check_refused("[model]\npath = \"/srv/model\"\n",
                  "test:2: [model] path = \"/srv/model\": is written");
    check_refused("[drives]\nshards = '/a', '/b'\n", "without quotes");

    struct conf conf;
    struct fault fault;
    conf_defaults(&conf);
    CHECK(conf_parse(&conf, "test", "[model]\npath = a\0b\n", 19, &fault) == -EINVAL);
    CHECK(strstr(fault.text, "test:2: has a zero byte"));
    CHECK(conf_load(&conf, "/nowhere/at.all", &fault) == -ENOENT);
    CHECK(conf_load(&conf, "/", &fault) != 0);
}

static void test_set(void)
{
    struct conf conf;
    struct fault fault;
    conf_defaults(&conf);
    CHECK(conf_set(&conf, "model.path=/x=y.z", &fault) == 0);
    CHECK(strcmp(conf.model_path, "/x=y.z") == 0);
    CHECK(conf_set(&conf, "limits.idle_timeout=3s", &fault) == 0);
    CHECK(conf.limits_idle_timeout == 3000000);
    static const char *const bad[] = {
        "",   "model",        "model.path",  "model=x",
        "=.", "model.nope=1", "nope.path=1", "limits.idle_timeout=never"};
    for (uint32_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(conf_set(&conf, bad[i], &fault) == -EINVAL);
        CHECK(strstr(fault.text, "--set"));
    }
}

static void test_check(void)
{
    struct fault fault;
    struct conf conf = conf_of("");
    CHECK(conf_check(&conf, &fault) == -EINVAL && strstr(fault.text, "--model"));
    conf = conf_of("[model]\npath = x\n");
    CHECK(conf_check(&conf, &fault) == 0);
    conf = conf_of("[model]\npath = x\n[listen]\nsocket =\n");
    CHECK(conf_check(&conf, &fault) == -EINVAL);
    conf = conf_of("[model]\npath = x\n[drives]\npack = /a\nshards = /b\n");
    CHECK(conf_check(&conf, &fault) == -EINVAL && strstr(fault.text, "pack and shards"));
    static const char *const sizes[] = {"32K", "65537", "1000000", "1"};
    for (uint32_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char text[100];
        snprintf(text, sizeof(text), "[model]\npath = x\n[drives]\nread_size = %s\n", sizes[i]);
        conf = conf_of(text);
        CHECK(conf_check(&conf, &fault) == -EINVAL && strstr(fault.text, "read_size"));
    }
    conf = conf_of("[model]\npath = x\n[drives]\nread_size = 64K\n");
    CHECK(conf_check(&conf, &fault) == 0);
}

static uint32_t told_n;
static void told(const struct conf_opt *opt)
{
    CHECK(strcmp(opt->key, "path") == 0);
    told_n++;
}

static void test_reload(void)
{
    struct conf conf = conf_of("[model]\npath = a\n");
    struct conf fresh = conf_of("[model]\npath = b\n[log]\nlevel = error\n[limits]\n"
                                "idle_timeout = 5s\n");
    CHECK(conf_reload(&conf, &fresh, told) == 2);
    CHECK(told_n == 1);
    CHECK(strcmp(conf.model_path, "a") == 0);
    CHECK(conf.log_level == LOG_LEVEL_ERROR && conf.limits_idle_timeout == 5000000);
    CHECK(conf_reload(&conf, &fresh, NULL) == 0);
}

static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    CHECK(out);
    print(out);
    CHECK(fclose(out) == 0);
    return text;
}

static char *file_text(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "r");
    CHECK(file);
    char *text = calloc(1, 1u << 20);
    CHECK(text);
    CHECK(fread(text, 1, (1u << 20) - 1, file) > 0);
    fclose(file);
    return text;
}

// The default file, with every option switched on, must read as the defaults.
static void test_default_file(void)
{
    char *text = printed(conf_print_file);
    for (char *p = text; (p = strchr(p, '#')); p++)
        if ((p == text || p[-1] == '\n') && p[1] != ' ')
            *p = ' ';
    for (char *p = text; (p = strstr(p, "\n ")); p++)
        memmove(p + 1, p + 2, strlen(p + 2) + 1);
    struct conf conf = conf_of(text), defaults = conf_of("");
    CHECK(memcmp(&conf, &defaults, sizeof(conf)) == 0);
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        char line[100];
        snprintf(line, sizeof(line), "\n%s =", conf_opts[i].key);
        CHECK(strstr(text, line));
        CHECK(strlen(conf_opts[i].help) > 10);
    }
    free(text);
}

static void test_committed(const char *root)
{
    char *text = printed(conf_print_file), *file = file_text(root, "etc/expertd.conf");
    CHECK(strcmp(text, file) == 0); // expertd --print-config > etc/expertd.conf
    free(text);
    free(file);
    text = printed(conf_print_man);
    file = file_text(root, "doc/man/expertd.conf.5");
    CHECK(strstr(file, text)); // expertd --print-config-man
    free(text);
    free(file);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2); // the source directory
    test_values();
    test_lists();
    test_mistakes();
    test_set();
    test_check();
    test_reload();
    test_default_file();
    test_committed(argv[1]);
    return 0;
}
