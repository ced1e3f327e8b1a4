// SPDX-License-Identifier: MIT
// What the service's user may open, tried by a child that becomes that user.
#include "client/doctor.h"
#include "io/net/nic.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICE_USER "expertd"

// The child's answer.
struct user_answer {
    int err;             // 0: all could be opened
    char path[PATH_MAX]; // else the first that could not
};

// try_file: true goes on.
static bool try_file(const char *path, int flags, struct user_answer *answer)
{
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        close(fd);
        return true;
    }
    if (errno == EBUSY) // a group of VFIO that the daemon has
        return true;
    answer->err = errno;
    snprintf(answer->path, sizeof(answer->path), "%s", path);
    return false;
}

// try_gpu opens every node that a driver may use.
static bool try_gpu(struct user_answer *answer)
{
    char path[PATH_MAX];
    bool good = true;

    DIR *dir = opendir("/dev/dri");
    for (struct dirent *entry; dir && good && (entry = readdir(dir));)
        if (strncmp(entry->d_name, "renderD", 7) == 0) {
            snprintf(path, sizeof(path), "/dev/dri/%s", entry->d_name);
            good = try_file(path, O_RDWR, answer);
        }
    if (dir)
        closedir(dir);
    return good;
}

static bool gpu_there(void)
{
    bool found = false;
    DIR *dir = opendir("/dev/dri");
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));)
        found = strncmp(entry->d_name, "renderD", 7) == 0;
    if (dir)
        closedir(dir);
    return found;
}

// try_vfio opens the NIC's group, which `net bind` shares; without a group nic_check has said why.
static bool try_vfio(const struct doctor *d, struct user_answer *answer)
{
    char link[PATH_MAX], target[PATH_MAX], path[PATH_MAX];
    struct nic_name name;
    struct fault ignored;

    if (nic_parse(d->conf.net_port, &name, &ignored) != 0 || name.kind != NIC_PCI)
        return true;
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", name.device);
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(target, '/');
    if (!slash || snprintf(path, sizeof(path), "/dev/vfio%s", slash) >= PATH_MAX ||
        access(path, F_OK) != 0)
        return true;
    return try_file(path, O_RDWR, answer);
}

static bool try_model(const struct doctor *d, struct user_answer *answer)
{
    bool good = true;

    for (uint32_t i = 0; good && i < checkpoint_file_count(d->checkpoint); i++)
        good = try_file(safetensors_path(checkpoint_file(d->checkpoint, i)), O_RDONLY, answer);
    for (uint32_t i = 0; i < d->packs_n; i++)
        for (uint32_t part = 0; good && d->packs[i] && part < pack_layout(d->packs[i])->parts_n;
             part++)
            good = try_file(pack_part_path(d->packs[i], part), O_RDONLY, answer);
    for (uint32_t i = 0; good && i < d->shards_n; i++)
        good = try_file(d->shard_dirs[i], O_RDONLY | O_DIRECTORY, answer);
    return good;
}

static bool try_secrets(const struct doctor *d, struct user_answer *answer)
{
    const char *const paths[] = {d->conf.net_keys, d->conf.net_tls_certificate,
                                 d->conf.net_tls_key};
    bool good = try_file(d->config, O_RDONLY, answer);

    for (size_t i = 0; good && d->conf.net_port[0] && i < sizeof(paths) / sizeof(paths[0]); i++)
        if (paths[i][0] == '/' && access(paths[i], F_OK) == 0)
            good = try_file(paths[i], O_RDONLY, answer);
    return good;
}

// user_child becomes the user, tries, and tells.  Does not return.
static void user_child(const struct doctor *d, const struct passwd *user, int out)
{
    struct user_answer answer = {0};

    if (d->sight_shown && d->sight.n > 0 && sight_enter(&d->sight) != 0)
        _exit(1); // so nothing can be said
    if (initgroups(user->pw_name, user->pw_gid) != 0 ||
        setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0)
        answer.err = errno;
    else
        (void)(try_secrets(d, &answer) && (!d->checkpoint || try_model(d, &answer)) &&
               try_gpu(&answer) && try_vfio(d, &answer));
    (void)!write(out, &answer, sizeof(answer));
    _exit(0);
}

static int user_try(const struct doctor *d, const struct passwd *user, struct user_answer *ret)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        user_child(d, user, ends[1]);
    close(ends[1]);
    ssize_t n = pid > 0 ? read(ends[0], ret, sizeof(*ret)) : -1;
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return n == (ssize_t)sizeof(*ret) ? 0 : -EIO;
}

/* ----------------------------------------------------------------- sandbox */

// unit_is says whether the unit's last KEY= has one of these values; false if it has none.
static bool unit_is(const struct doctor *d, const char *key, const char *const *values, size_t n)
{
    char value[256];

    if (!doctor_unit_value(d, key, value, sizeof(value)))
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(value, values[i]) == 0)
            return true;
    return false;
}

// hides says whether the unit hides a place.
static bool hides(const struct doctor *d, const char *place)
{
    static const char *const closed[] = {"yes", "true", "on", "1", "tmpfs", "disconnected"};

    return unit_is(d, strstr(place, "/tmp") ? "PrivateTmp" : "ProtectHome", closed,
                   sizeof(closed) / sizeof(closed[0]));
}

// brings_back says whether a drop-in shows what is hidden there: nothing below a home that is
// inaccessible, not merely empty.
static bool brings_back(const struct doctor *d, const char *path)
{
    static const char *const empty[] = {"tmpfs"};

    return doctor_unit_shows(d, path) && (!sight_home(path) || unit_is(d, "ProtectHome", empty, 1));
}

// hidden_one returns whether the service does not see a path.
static bool hidden_one(struct doctor *d, const char *path)
{
    const char *place = sight_hidden(path);

    if (!place || !hides(d, place) || brings_back(d, path))
        return false;
    doctor_add(d, VERDICT_FAIL, "sandbox",
               sight_home(path) ? "expertctl setup --yes --force, and the commands that it prints: "
                                  "the service is shown it; or move it, to /srv for example"
                                : "move it, to /srv for example",
               "the service does not see what lies below %s: %s", place, path);
    return true;
}

static bool in_sight(const struct sight *sight, const char *path)
{
    for (uint32_t i = 0; i < sight->n; i++)
        if (strcmp(sight->dirs[i], path) == 0)
            return true;
    return false;
}

static void hidden_look(struct doctor *d)
{
    const char *paths[1 + 2 * STREAM_DIRS_MAX] = {d->conf.model_path};
    uint32_t n = 1;
    struct fault fault;

    for (uint32_t i = 0; i < d->packs_n; i++)
        paths[n++] = d->pack_dirs[i];
    for (uint32_t i = 0; i < d->shards_n; i++)
        paths[n++] = d->shard_dirs[i];
    const bool homes = hides(d, "/home");
    d->sight_shown = homes;
    for (uint32_t i = 0; i < n && homes; i++)
        if (sight_add(&d->sight, paths[i], &fault) != 0) {
            d->sight_shown = false;
            doctor_add(d, VERDICT_FAIL, "sandbox", "move it, to /srv for example", "%s",
                       fault.text);
        }
    for (uint32_t i = 0; i < n; i++)
        if (!in_sight(&d->sight, paths[i])) // by another name, or elsewhere
            hidden_one(d, paths[i]);
    for (uint32_t i = 0; i < d->sight.n; i++)
        if (hidden_one(d, d->sight.dirs[i]))
            d->sight_shown = false;
}

void doctor_user(struct doctor *doctor)
{
    const struct passwd *user = getpwnam(SERVICE_USER);
    struct user_answer answer = {0};
    char mend[PATH_MAX + 128];
    struct doctor_word word;

    if (!doctor->conf_read || !doctor->usual)
        return;
    hidden_look(doctor);
    if (!user) {
        doctor_add(doctor, VERDICT_WARN, "user", "systemd-sysusers",
                   "there is no user " SERVICE_USER ", as whom the service runs");
        return;
    }
    if (!doctor->privileged) {
        doctor_add(doctor, VERDICT_WARN, "user", "run expertctl doctor as root",
                   "what the user " SERVICE_USER " may open cannot be tried by this one");
        return;
    }
    if (user_try(doctor, user, &answer) != 0) {
        doctor_add(doctor, VERDICT_WARN, "user", "",
                   "what the user " SERVICE_USER " may open cannot be tried here");
        return;
    }
    if (answer.err == 0) {
        doctor_add(doctor, VERDICT_OK, "user", "", SERVICE_USER " may open the configuration%s%s",
                   doctor->checkpoint ? ", the model" : "", gpu_there() ? ", the GPU" : "");
        return;
    }
    snprintf(mend, sizeof(mend),
             strncmp(answer.path, "/dev/vfio/", 10) == 0
                 ? "systemctl restart expertd-vfio@PCI, or expertctl net bind PCI, shares it"
             : strncmp(answer.path, "/dev/", 5) == 0
                 ? "usermod -aG video,render " SERVICE_USER
                 : "namei -l %s shows which directory or file keeps it out; chgrp " SERVICE_USER
                   " and chmod g+rX that",
             doctor_word(answer.path, &word));
    doctor_add(doctor, VERDICT_FAIL, "user", mend, "the user " SERVICE_USER " cannot open %s: %s",
               answer.path, strerror(answer.err));
}
