// SPDX-License-Identifier: MIT
// Values of a configuration that are changed and written again are read back as they were meant.
#include "client/conf_edit.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

static const char file[] = "[model]\npath = /srv/a\ncontext_max = 4096\n"
                           "[drives]\nshards = /mnt/b, /mnt/c\nshards = /mnt/d\n"
                           "[log]\nlevel = debug\n";

static void test_round(void)
{
    struct conf_edit edit = {0}, again = {0};
    struct text text = {0};
    struct fault fault = {0};
    struct conf conf;

    CHECK(conf_edit_read(&edit, file, &fault) == 0 && edit.n == 4);
    CHECK(strcmp(conf_edit_get(&edit, "drives", "shards"), "/mnt/b, /mnt/c,/mnt/d") == 0);
    CHECK(!conf_edit_get(&edit, "net", "port"));
    CHECK(conf_edit_set(&edit, "model", "path", "/srv/with blank", &fault) == 0);
    CHECK(conf_edit_set(&edit, "net", "port", "tap:x0", &fault) == 0);
    CHECK(conf_edit_set(&edit, "log", "level", NULL, &fault) == 0);
    CHECK(conf_edit_set(&edit, "log", "level", "", &fault) == 0); // away already
    CHECK(conf_edit_text(&edit, &text, &fault) == 0);
    conf_defaults(&conf);
    CHECK(conf_parse(&conf, "f", text.bytes, text.n, &fault) == 0);
    CHECK(strcmp(conf.model_path, "/srv/with blank") == 0 && conf.model_context_max == 4096);
    CHECK(strcmp(conf.drives_shards, "/mnt/b,/mnt/c,/mnt/d") == 0);
    CHECK(strcmp(conf.net_port, "tap:x0") == 0 && conf.log_level == LOG_LEVEL_INFO);
    CHECK(strstr(text.bytes, "\n#level = info\n") && !strstr(text.bytes, "\nlevel ="));

    struct text second = {0}; // what was written gives the same file
    CHECK(conf_edit_read(&again, text.bytes, &fault) == 0);
    CHECK(conf_edit_text(&again, &second, &fault) == 0);
    CHECK(second.n == text.n && memcmp(second.bytes, text.bytes, text.n) == 0);
    text_free(&second);
    text_free(&text);
    conf_edit_free(&edit);
    conf_edit_free(&again);
}

// Without values it is the default file, to the byte.
static void test_default(void)
{
    struct conf_edit edit = {0};
    struct text text = {0};
    struct fault fault = {0};
    char *bytes = NULL;
    size_t n = 0;

    FILE *out = open_memstream(&bytes, &n);
    CHECK(out);
    conf_print_file(out);
    CHECK(fclose(out) == 0 && conf_edit_text(&edit, &text, &fault) == 0);
    CHECK(text.n == n && memcmp(text.bytes, bytes, n) == 0);
    CHECK(conf_edit_read(&edit, bytes, &fault) == 0 && edit.n == 0);
    free(bytes);
    text_free(&text);
}

static void test_refused(void)
{
    static const char *const paths[] = {"/srv/a ;b", "/srv/a\nb", "relative;fine-but ;not"};
    struct text text = {0};
    struct fault fault = {0};
    char longer[300];

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct conf_edit edit = {0};
        CHECK(conf_edit_set(&edit, "model", "path", paths[i], &fault) == 0);
        CHECK(conf_edit_text(&edit, &text, &fault) == -EINVAL);
        conf_edit_free(&edit);
    }
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    struct conf_edit edit = {0};
    CHECK(conf_edit_set(&edit, "model", "path", longer, &fault) == 0);
    CHECK(conf_edit_text(&edit, &text, &fault) == -EINVAL);
    conf_edit_free(&edit);
    text_free(&text);
}

int main(void)
{
    test_round();
    test_default();
    test_refused();
    return 0;
}
