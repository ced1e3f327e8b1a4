// SPDX-License-Identifier: MIT
#include "client/doctor.h"

#include <assert.h>
#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES (2u * PATH_MAX)

const char *const verdict_name[] = {
    [VERDICT_OK] = "ok",
    [VERDICT_WARN] = "warn",
    [VERDICT_FAIL] = "fail",
};
static_assert(sizeof(verdict_name) / sizeof(verdict_name[0]) == VERDICT_COUNT, "every verdict");

// Where units and their drop-ins lie, the more urgent ones last.
static const char *const unit_places[] = {"/usr/lib/systemd/system", "/run/systemd/system",
                                          "/etc/systemd/system"};

void doctor_add(struct doctor *doctor, enum verdict verdict, const char *what, const char *mend,
                const char *format, ...)
{
    struct fault line = {0};
    va_list args;

    if (doctor->n == DOCTOR_FINDINGS_MAX)
        return;
    struct finding *finding = &doctor->findings[doctor->n++];
    *finding = (struct finding){.verdict = verdict, .what = what};
    va_start(args, format);
    vsnprintf(finding->found, sizeof(finding->found), format, args);
    va_end(args);
    fault_set(&line, 1, "%s", mend); // no control characters
    snprintf(finding->mend, sizeof(finding->mend), "%s", line.text);
}

const char *doctor_word(const char *path, struct doctor_word *ret)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+,:=@%";
    size_t n = 0;

    if (path[0] && path[0] != '-' && strspn(path, plain) == strlen(path))
        return path;
    ret->text[n++] = '\'';
    for (; *path && n < sizeof(ret->text) - 6; path++) {
        if (*path == '\'') // ends, is escaped, begins again
            n += (size_t)snprintf(ret->text + n, 4, "'\\'");
        ret->text[n++] = *path;
    }
    snprintf(ret->text + n, 2, "'");
    return ret->text;
}

const char *doctor_path(const struct doctor *doctor, const char *path, char ret[4096])
{
    snprintf(ret, PATH_MAX, "%s%s", doctor->root, path);
    return ret;
}

bool doctor_read(const struct doctor *doctor, const char *path, char *ret, size_t bytes)
{
    char full[PATH_MAX];
    FILE *file = fopen(doctor_path(doctor, path, full), "re");

    bool there = file && fgets(ret, (int)bytes, file);
    if (file)
        fclose(file);
    if (there)
        ret[strcspn(ret, "\n")] = '\0';
    return there;
}

/* ------------------------------------------------------------------ unit */

// A look through unit and drop-ins: a line is what is searched.
struct unit_look {
    const char *words; // a line has these ...
    const char *key;   // ... or begins with this and '=' ...
    const char *dir;   // ... or brings this back into sight
    char *value;       // of the last such line
    size_t bytes;
    bool found;
};

// bound returns the value of a line that brings paths back, or NULL.
static const char *bound(const char *line)
{
    static const char *const keys[] = {"BindReadOnlyPaths=", "BindPaths="};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strncmp(line, keys[i], strlen(keys[i])) == 0)
            return line + strlen(keys[i]);
    return NULL;
}

static void unit_file(const char *path, struct unit_look *look)
{
    char text[LINE_BYTES];
    FILE *file = fopen(path, "re");

    while (file && fgets(text, sizeof(text), file)) {
        const char *line = text + strspn(text, " \t");
        text[strcspn(text, "\n")] = '\0';
        if (line[0] == '#' || line[0] == ';')
            continue;
        size_t n = look->key ? strlen(look->key) : 0;
        const char *value = look->dir ? bound(line) : NULL;
        if (value) // an empty one takes back what was set
            look->found = *value && (look->found || sight_shows(value, look->dir));
        if (look->words && strstr(line, look->words))
            look->found = true;
        if (n > 0 && strncmp(line, look->key, n) == 0 && line[n] == '=') {
            snprintf(look->value, look->bytes, "%s", line + n + 1);
            look->found = true;
        }
    }
    if (file)
        fclose(file);
}

static int name_order(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int name_conf(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static void unit_look(const struct doctor *doctor, struct unit_look *look)
{
    char path[PATH_MAX], dir[PATH_MAX], file[PATH_MAX + 300];

    for (size_t i = 0; i < sizeof(unit_places) / sizeof(unit_places[0]); i++) {
        snprintf(path, sizeof(path), "%s/" DOCTOR_UNIT, unit_places[i]);
        unit_file(doctor_path(doctor, path, dir), look);
    }
    for (size_t i = 0; i < sizeof(unit_places) / sizeof(unit_places[0]); i++) {
        struct dirent **names = NULL;
        snprintf(path, sizeof(path), "%s/" DOCTOR_UNIT ".d", unit_places[i]);
        int n = scandir(doctor_path(doctor, path, dir), &names, name_conf, name_order);
        for (int k = 0; k < n; k++) {
            snprintf(file, sizeof(file), "%s/%s", dir, names[k]->d_name);
            unit_file(file, look);
            free(names[k]);
        }
        free(names);
    }
}

bool doctor_unit_has(const struct doctor *doctor, const char *words)
{
    struct unit_look look = {.words = words};
    unit_look(doctor, &look);
    return look.found;
}

bool doctor_unit_shows(const struct doctor *doctor, const char *dir)
{
    struct unit_look look = {.dir = dir};
    unit_look(doctor, &look);
    return look.found;
}

bool doctor_unit_value(const struct doctor *doctor, const char *key, char *ret, size_t bytes)
{
    struct unit_look look = {.key = key, .value = ret, .bytes = bytes};
    unit_look(doctor, &look);
    return look.found;
}
