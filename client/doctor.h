// SPDX-License-Identifier: MIT
// doctor: is this machine fit for what the configuration asks?  A list of findings, each with the
// command that mends it.  doctor.c is the command and the order of the checks, doctor_*.c the
// checks of one matter each.
//
// Reads and asks only: takes no lock, changes nothing, and reads little from drives (seconds; less
// while a daemon serves).  What it could not see without root it says.
// One thread.
#pragma once
#include "base/fault.h"
#include "client/sight.h"
#include "daemon/conf.h"
#include "model/checkpoint.h"
#include "model/device_info.h"
#include "model/pack.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define DOCTOR_FINDINGS_MAX 96u
#define DOCTOR_TEXT_MAX     640u
#define DOCTOR_UNIT         "expertd.service"

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL, VERDICT_COUNT };
extern const char *const verdict_name[VERDICT_COUNT]; // "ok", "warn", "fail"

struct client; // client/client.h

struct finding {
    enum verdict verdict;
    const char *what;            // "huge pages"
    char found[DOCTOR_TEXT_MAX]; // a sentence
    char mend[DOCTOR_TEXT_MAX];  // a command, or what to do; "" where nothing is to be done
};

struct doctor {
    // Given.
    const char *root;               // in front of /proc, /sys, /etc and /usr: "" but for tests
    const char *config;             // the file
    const char *datadir;            // of installed drop-ins
    const char *plugins;            // the folder of DPDK's
    bool usual;                     // it is the service's file
    bool privileged;                // we are root
    bool hashes;                    // look at all of them
    bool serving;                   // a daemon answers at the configured socket
    int (*interrupted)(void *user); // -ECANCELED: stop, else 0; NULL: never
    void *interrupted_user;
    int stop_fd; // readable then; not used where interrupted is NULL

    // Found on the way, for the checks behind.
    struct conf conf;
    bool conf_read;
    struct checkpoint *checkpoint;
    struct device_info device;
    bool device_found;
    struct pack *packs[STREAM_DIRS_MAX];
    char packs_text[CONF_LIST_MAX], shards_text[CONF_LIST_MAX];
    const char *pack_dirs[STREAM_DIRS_MAX], *shard_dirs[STREAM_DIRS_MAX];
    uint32_t packs_n, shards_n;
    struct sight sight;   // what of homes the service needs, where the unit hides them
    bool sight_shown;     // and it is shown all of that
    uint64_t token_bytes; // that a token reads from drives, by the plan; 0: none

    struct finding findings[DOCTOR_FINDINGS_MAX];
    uint32_t n;
};

// doctor_add notes a finding; beyond DOCTOR_FINDINGS_MAX none.  mend: "" for none.
void doctor_add(struct doctor *doctor, enum verdict verdict, const char *what, const char *mend,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

// doctor_path makes ROOT/PATH.  doctor_read reads the first line of such a file; false if there is
// none.
const char *doctor_path(const struct doctor *doctor, const char *path, char ret[4096]);
bool doctor_read(const struct doctor *doctor, const char *path, char *ret, size_t bytes);

// A path in a command that somebody pastes, often as root: quoted for a shell where it has to be.
struct doctor_word {
    char text[4 * 4096 + 3];
};
const char *doctor_word(const char *path, struct doctor_word *ret);

// doctor_unit_has says whether the unit, or a drop-in of it, has a line with these words.
bool doctor_unit_has(const struct doctor *doctor, const char *words);
// doctor_unit_shows says whether a line brings a directory back that the unit hides
// (client/sight.h).
bool doctor_unit_shows(const struct doctor *doctor, const char *dir);
// doctor_unit_value finds the last KEY=VALUE of unit and drop-ins; false if there is none.
bool doctor_unit_value(const struct doctor *doctor, const char *key, char *ret, size_t bytes);

// The checks.  Each notes what it finds.
void doctor_config(struct doctor *doctor);     // the file; first, for the others need it
void doctor_kernel(struct doctor *doctor);     // version, io_uring, huge pages, IOMMU, memlock
void doctor_device(struct doctor *doctor);     // GPU, driver, external memory
void doctor_checkpoint(struct doctor *doctor); // complete; packs and copies, too
void doctor_hashes(struct doctor *doctor);     // damaged experts
void doctor_memory(struct doctor *doctor);     // the plan
void doctor_drives(struct doctor *doctor);     // O_DIRECT, speed
void doctor_port(struct doctor *doctor);       // NIC, PMD, drop-in
void doctor_keys(struct doctor *doctor);       // keys, certificate
void doctor_user(struct doctor *doctor);       // what the service's user may open

// doctor_judge runs all checks on this machine.
//
// client: for the daemon's address and interrupts.  doctor: emptied first; doctor_free follows.
// Returns 0, or -ECANCELED after Ctrl-C.
int doctor_judge(const struct client *client, const char *config, struct doctor *doctor);
bool doctor_good(const struct doctor *doctor); // nothing fails
// doctor_report makes what --json prints; NULL without memory.  The caller's.
json_t *doctor_report(const struct doctor *doctor);
void doctor_free(struct doctor **doctor); // that was allocated; accepts NULL
