// SPDX-License-Identifier: MIT
// events: what an operator filters the journal by; the only list of them.  A line of an event has,
// beside its text, its MESSAGE_ID, EXPERTD_EVENT with its name, and the fields named here:
//
//     journalctl -u expertd EXPERTD_EVENT=drive
//     journalctl MESSAGE_ID=724e98e03dc3412abf266af3671dcdc9 -o json
//
// An identifier stays with its event for ever; a new event gets one of `systemd-id128 new`.
#pragma once

// Name, word, MESSAGE_ID, lines a minute (0: any number), fields without their EXPERTD_.  What the
// network can cause has a limit.
// clang-format off
#define EVENTS(X) \
    X(READY,      "ready",      "3519dd26029140169312ef60a64e1004", 0,  "MODEL DEVICE SECONDS") \
    X(STOPPING,   "stopping",   "e20c1f77266c4993ae4682075e050c99", 0,  "REASON") \
    X(RELOADED,   "reloaded",   "dfa5b35c90d94259a60155d1210b130d", 0,  "CHANGED") \
    X(CONFIG,     "config",     "91efd5fc82d34c46bcbd47cec60a61e1", 0,  "") \
    X(FAILED,     "failed",     "724e98e03dc3412abf266af3671dcdc9", 0,  "ERRNO") \
    X(DRIVE,      "drive",      "b70c54d70eba4aee90680f7fd35eff72", 30, "DRIVE STATE") \
    X(LINK,       "link",       "3780c265ef1d49d283bf612f52bfc943", 30, "PORT STATE") \
    X(KEY,        "key",        "3f24b3e37bb043e4ab12c879948f6f0d", 30, "CLIENT STATUS") \
    X(FULL,       "full",       "45197f6507a14cd8b67989ca51d85438", 30, "CLIENT STATUS") \
    X(STUCK,      "stuck",      "c60deb37c8d040d798bcc84cb8b5efd5", 30, "SECONDS")
// clang-format on

// READY     the model is loaded, requests are served
// STOPPING  it was asked to stop
// RELOADED  SIGHUP: a new configuration, keys and certificates are in force
// CONFIG    a configuration was refused, at start or on SIGHUP
// FAILED    the daemon ends: it could not start, or its device failed
// DRIVE     a drive fails (STATE=failing), or works again (working)
// LINK      the port's link changed: STATE=up or down
// KEY       a request was refused for its key: STATUS=401, or 429 for the key's rate
// FULL      a request or connection was refused because all places are taken
// STUCK     the model makes no step: the watchdog will end the daemon

#define EVENT_ID(id, word, message_id, per_minute, fields) EVENT_##id,
enum event { EVENTS(EVENT_ID) EVENT_COUNT };
#undef EVENT_ID
