// SPDX-License-Identifier: MIT
// certificate: a self-signed certificate of the port, and how long one still holds.
#pragma once
#include "base/fault.h"
#include "client/text.h"

#include <stdint.h>

// Apple's clients take no certificate of a server that holds longer.
#define CERTIFICATE_DAYS 825

// certificate_make makes a key on P-256 and a certificate for this machine's name, and for an
// address.
//
// address: "10.77.0.2", or "": none is known.  ret_*: PEM; the key is a secret.
// Errors: -ENOMEM.
int certificate_make(const char *name, const char *address, struct text *ret_certificate,
                     struct text *ret_key, struct fault *fault);

// certificate_days returns how many whole days the first certificate of a PEM file still holds;
// negative once it is over.  Errors: -errno of opening; -EBADMSG it is none.
int certificate_days(const char *path, int64_t *ret_days, struct fault *fault);
