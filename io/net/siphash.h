// SPDX-License-Identifier: MIT
// siphash: SipHash-2-4, a keyed hash of short inputs that cannot be steered without the key: for
// tables that strangers fill and for numbers that they must not guess.  Pure; any thread.
// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", with its test vectors.
#pragma once
#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint64_t key[2], const void *bytes, size_t n);
