// SPDX-License-Identifier: MIT
#include "client/sight.h"

#include "base/utf8.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOPS_MAX 40u // of links, as the kernel has it
#define TEXT_MAX (SIGHT_MAX * 2u * PATH_MAX + 1024u)

// below says whether a path is a directory, or lies in it; both without a slash at the end.
static bool below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* ------------------------------------------------------------------ places */

static const struct {
    const char *path;
    bool home;
    uint32_t parts; // below it, that name whose home it is
} places[] = {{"/home", true, 1},
              {"/root", true, 0},
              {"/run/user", false, 0},
              {"/var/tmp", false, 0},
              {"/tmp", false, 0}};
#define PLACES (sizeof(places) / sizeof(places[0]))

// place_of returns the index of the place that hides a path, under its name or where that links to
// (/home may be /var/home); PLACES: none.  ret_rest: what follows behind it.
static size_t place_of(const char *path, const char **ret_rest)
{
    for (size_t i = 0; i < PLACES; i++) {
        char *real = realpath(places[i].path, NULL);
        const char *names[] = {places[i].path, real ? real : places[i].path};
        for (size_t k = 0; k < 2; k++)
            if (below(path, names[k])) {
                *ret_rest = path + strlen(names[k]);
                free(real);
                return i;
            }
        free(real);
    }
    return PLACES;
}

const char *sight_hidden(const char *path)
{
    const char *rest;
    size_t i = place_of(path, &rest);
    return i < PLACES ? places[i].path : NULL;
}

bool sight_home(const char *path)
{
    const char *rest;
    size_t i = place_of(path, &rest);
    return i < PLACES && places[i].home;
}

/* ------------------------------------------------------------- directories */

// home_length returns the bytes of the home in which a real path lies ("/home/alice", "/root"); 0:
// in none.
static size_t home_length(const char *real)
{
    const char *rest;
    size_t place = place_of(real, &rest);

    if (place == PLACES || !places[place].home)
        return 0;
    for (uint32_t i = 0; i < places[place].parts && *rest; i++)
        rest += 1 + strcspn(rest + 1, "/");
    return (size_t)(rest - real);
}

bool sight_named_well(const char *path)
{
    for (; *path; path++)
        if ((unsigned char)*path < 0x20 || *path == 0x7f)
            return false;
    return true;
}

// writable says whether systemd takes a line with it.
static bool writable(const char *real)
{
    return sight_named_well(real) && utf8_valid_len(real, strlen(real)) == strlen(real);
}

// real_add adds a directory by its real path, if it lies in a home.
static int real_add(struct sight *sight, const char *real, struct fault *fault)
{
    size_t home = home_length(real);
    uint32_t kept = 0;

    if (home == 0)
        return 0;
    for (uint32_t i = 0; i < sight->n; i++)
        if (below(real, sight->dirs[i]))
            return 0;
    if (!real[home])
        return fault_set(fault, EPERM,
                         "%.300s: the service would see all of a home; move it to a directory of "
                         "its own",
                         real);
    if (strlen(real) >= PATH_MAX || !writable(real))
        return fault_set(fault, EINVAL,
                         "a directory below %.*s has a control character in its name, or is not "
                         "UTF-8",
                         (int)home, real);
    for (uint32_t i = 0; i < sight->n; i++) // those in the new one come with it
        if (!below(sight->dirs[i], real) && kept++ != i)
            memcpy(sight->dirs[kept - 1], sight->dirs[i], PATH_MAX);
    sight->n = kept;
    if (sight->n == SIGHT_MAX)
        return fault_set(fault, E2BIG,
                         "files lie in more than %u directories of homes; move them to /srv, for "
                         "example",
                         SIGHT_MAX);
    snprintf(sight->dirs[sight->n++], PATH_MAX, "%s", real);
    return 0;
}

// served says whether a name is one of a checkpoint's or a pack's files.
static bool served(const char *name)
{
    static const char *const ends[] = {".safetensors", ".json", ".jinja", "checksums"};
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (n >= strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return strncmp(name, "experts.", 8) == 0;
}

// plain makes of an absolute path one without "." and "..", by its text alone.
static void plain(char *path)
{
    char *to = path;
    for (const char *at = path; *at;) {
        size_t n = 1 + strcspn(at + 1, "/");
        if (n == 3 && at[1] == '.' && at[2] == '.') {
            while (to > path && *--to != '/')
                ;
        } else if (n > 2 || (n == 2 && at[1] != '.')) {
            memmove(to, at, n);
            to += n;
        }
        at += n;
    }
    *to = '\0';
}

// hop_take follows one link: file becomes what it names, in real directories.
//
// Returns 1 where there is none to follow.  Errors: -EPERM the service could not follow it.
static int hop_take(char file[PATH_MAX], struct fault *fault)
{
    char target[PATH_MAX], next[2 * PATH_MAX + 2];

    ssize_t n = readlink(file, target, sizeof(target) - 1);
    if (n <= 0)
        return 1;
    target[n] = '\0';
    char *slash = strrchr(file, '/');
    snprintf(next, sizeof(next), "%.*s/%s", target[0] == '/' ? 0 : (int)(slash - file), file,
             target);
    char *name = strrchr(next, '/');
    *name++ = '\0';
    char *real = realpath(next[0] ? next : "/", NULL);
    if (!real)
        return 1; // it leads nowhere, which the checkpoint says
    plain(next);
    bool straight = strcmp(next, real) == 0 || !sight_home(real);
    int err = straight ? 0
                       : fault_set(fault, EPERM,
                                   "%.300s is a link through a link to a directory, which the "
                                   "service does not see: name that directory itself",
                                   file);
    if (!err && snprintf(file, PATH_MAX, "%s/%s", real[1] ? real : "", name) >= PATH_MAX)
        err = fault_set(fault, ENAMETOOLONG, "%.300s: the path is too long", real);
    free(real);
    return err;
}

// link_add adds the directories through which a link in a directory leads.  One that lies in a home
// leads nobody to another home.
static int link_add(struct sight *sight, const char *dir, const char *name, struct fault *fault)
{
    size_t home = home_length(dir);
    char file[PATH_MAX];

    if (snprintf(file, sizeof(file), "%s/%s", dir, name) >= PATH_MAX)
        return fault_set(fault, ENAMETOOLONG, "%.300s: the path is too long", dir);
    for (uint32_t hop = 0; hop < HOPS_MAX; hop++) {
        int err = hop_take(file, fault);
        if (err != 0)
            return err < 0 ? err : 0;
        char *slash = strrchr(file, '/');
        *slash = '\0';
        if (home > 0 && home_length(file) > 0 &&
            (strncmp(file, dir, home) != 0 || (file[home] && file[home] != '/')))
            return fault_set(fault, EPERM,
                             "%.200s/%.100s leads to another home: %.200s; name that "
                             "directory, or move it",
                             dir, name, file);
        err = real_add(sight, file, fault);
        if (err)
            return err;
        *slash = '/';
    }
    return 0;
}

int sight_add(struct sight *sight, const char *dir, struct fault *fault)
{
    char *real = realpath(dir, NULL);
    if (!real)
        return errno == ENOMEM ? fault_set(fault, ENOMEM, "out of memory") : 0;

    int err = real_add(sight, real, fault);
    DIR *stream = err ? NULL : opendir(real);
    for (struct dirent *entry; !err && stream && (entry = readdir(stream));)
        if ((entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) && served(entry->d_name))
            err = link_add(sight, real, entry->d_name, fault);
    if (stream)
        closedir(stream);
    free(real);
    return err;
}

/* ----------------------------------------------------------------- drop-in */

// word_put writes a path for systemd: a word in quotes, in which % means itself.
static int word_put(struct text *text, const char *path)
{
    int err = text_append(text, "\"-", 2, TEXT_MAX); // -: that it is missing is for expertd to say
    for (; *path && !err; path++) {
        if (*path == '"' || *path == '\\')
            err = text_append(text, "\\", 1, TEXT_MAX);
        else if (*path == '%')
            err = text_append(text, "%", 1, TEXT_MAX);
        if (!err)
            err = text_append(text, path, 1, TEXT_MAX);
    }
    return err ? err : text_append(text, "\"\n", 2, TEXT_MAX);
}

int sight_text(const struct sight *sight, struct text *ret)
{
    static const char head[] = SIGHT_HEAD "[Service]\nProtectHome=tmpfs\n";
    int err = text_append(ret, head, sizeof(head) - 1, TEXT_MAX);

    for (uint32_t i = 0; i < sight->n && !err; i++) {
        err = text_append(ret, "BindReadOnlyPaths=", 18, TEXT_MAX);
        if (!err)
            err = word_put(ret, sight->dirs[i]);
    }
    return err;
}

bool sight_is_ours(const char *path)
{
    char line[sizeof(SIGHT_HEAD)] = "";
    FILE *file = fopen(path, "re");

    bool ours = file && fgets(line, sizeof(line), file) && strcmp(line, SIGHT_HEAD) == 0;
    if (file)
        fclose(file);
    return ours;
}

static bool gap(char c)
{
    return c == ' ' || c == '\t';
}

// word_take reads the source path of the word that begins here: "-SOURCE:DESTINATION:OPTIONS".
// Returns what follows.
static const char *word_take(const char *at, char *ret, size_t bytes)
{
    bool source = true;
    char quoted = '\0'; // by " or '
    size_t n = 0;

    for (; *at && (quoted || !gap(*at)); at++) {
        if (quoted ? *at == quoted : *at == '"' || *at == '\'') {
            quoted = quoted ? '\0' : *at;
            continue;
        }
        source &= quoted || *at != ':';
        if ((*at == '\\' && at[1]) || (*at == '%' && at[1] == '%'))
            at++;
        if (source && n + 1 < bytes && (n > 0 || *at != '-'))
            ret[n++] = *at;
    }
    while (n > 1 && ret[n - 1] == '/')
        n--;
    ret[n] = '\0';
    return at;
}

bool sight_shows(const char *value, const char *dir)
{
    char word[PATH_MAX];

    while (*value) {
        if (gap(*value)) {
            value++;
            continue;
        }
        value = word_take(value, word, sizeof(word));
        char *real = word[0] == '/' ? realpath(word, NULL) : NULL;
        bool shows = word[0] == '/' && (below(dir, word) || (real && below(dir, real)));
        free(real);
        if (shows)
            return true;
    }
    return false;
}

/* -------------------------------------------------------------------- view */

// dirs_make makes a directory and those above it.
static int dirs_make(const char *path)
{
    char part[PATH_MAX];

    for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", slash ? (int)(slash - path) : PATH_MAX - 1, path);
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return -errno;
        if (!slash)
            return 0;
    }
}

static int dir_bind(int fd, const char *path)
{
    char source[32];

    int err = dirs_make(path);
    if (err)
        return err;
    snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
    return mount(source, path, NULL, MS_BIND | MS_REC, NULL) == 0 ? 0 : -errno;
}

int sight_enter(const struct sight *sight)
{
    int fds[SIGHT_MAX], err = 0;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return -errno;
    umask(022);
    for (uint32_t i = 0; i < sight->n; i++)
        fds[i] = open(sight->dirs[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < PLACES && !err; i++)
        if (places[i].home && mount("tmpfs", places[i].path, "tmpfs", 0, "mode=0755") != 0 &&
            errno != ENOENT)
            err = -errno;
    for (uint32_t i = 0; i < sight->n; i++) {
        if (fds[i] >= 0 && !err)
            err = dir_bind(fds[i], sight->dirs[i]);
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return err;
}
