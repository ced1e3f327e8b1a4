// SPDX-License-Identifier: MIT
#include "client/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PEM_BYTES_MAX (64u << 10)
#define DAY_S         86400

// name_add adds an alternative name.
static bool name_add(GENERAL_NAMES *names, int type, ASN1_STRING *value)
{
    GENERAL_NAME *name = value ? GENERAL_NAME_new() : NULL;

    if (!name) {
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

// names_set writes the name and the address as the certificate's alternative names.
static bool names_set(X509 *x, const char *name, const char *address)
{
    unsigned char bytes[16];
    int n = inet_pton(AF_INET, address, bytes) == 1    ? 4
            : inet_pton(AF_INET6, address, bytes) == 1 ? 16
                                                       : 0;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    ASN1_STRING *dns = names ? ASN1_IA5STRING_new() : NULL;

    bool done =
        dns && ASN1_STRING_set(dns, name, (int)strlen(name)) == 1 && name_add(names, GEN_DNS, dns);
    if (done && n > 0) {
        ASN1_STRING *ip = ASN1_OCTET_STRING_new();
        done = ip && ASN1_STRING_set(ip, bytes, n) == 1 && name_add(names, GEN_IPADD, ip);
    }
    done = done && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0) == 1;
    GENERAL_NAMES_free(names);
    return done;
}

static bool serial_set(X509 *x)
{
    BIGNUM *number = BN_new();

    bool done = number && BN_rand(number, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
    BN_free(number);
    return done;
}

static bool certificate_fill(X509 *x, EVP_PKEY *key, const char *name, const char *address)
{
    const unsigned char *text = (const unsigned char *)name;
    X509_NAME *subject = X509_get_subject_name(x);

    return X509_set_version(x, X509_VERSION_3) == 1 && serial_set(x) &&
           X509_gmtime_adj(X509_getm_notBefore(x), -DAY_S) && // clocks of clients may be late
           X509_gmtime_adj(X509_getm_notAfter(x), (CERTIFICATE_DAYS - 1L) * DAY_S) &&
           X509_set_pubkey(x, key) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, text, -1, -1, 0) == 1 &&
           X509_set_issuer_name(x, subject) == 1 && names_set(x, name, address) &&
           X509_sign(x, key, EVP_sha256()) > 0;
}

// bio_take moves what was written into a text.
static bool bio_take(BIO *bio, struct text *ret)
{
    char *bytes = NULL;
    long n = BIO_get_mem_data(bio, &bytes);
    return n > 0 && text_append(ret, bytes, (size_t)n, PEM_BYTES_MAX) == 0;
}

int certificate_make(const char *name, const char *address, struct text *ret_certificate,
                     struct text *ret_key, struct fault *fault)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *first = BIO_new(BIO_s_mem()), *second = BIO_new(BIO_s_secmem());

    bool done = key && x && first && second && certificate_fill(x, key, name, address) &&
                PEM_write_bio_X509(first, x) == 1 &&
                PEM_write_bio_PrivateKey(second, key, NULL, NULL, 0, NULL, NULL) == 1 &&
                bio_take(first, ret_certificate) && bio_take(second, ret_key);
    BIO_free(first);
    BIO_free(second);
    X509_free(x);
    EVP_PKEY_free(key);
    return done ? 0 : fault_set(fault, ENOMEM, "a certificate cannot be made: out of memory");
}

int certificate_days(const char *path, int64_t *ret_days, struct fault *fault)
{
    int days = 0, seconds = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return fault_set(fault, errno, "%.200s: %s", path, strerror(errno));

    X509 *x = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    bool read = x && ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)) == 1;
    X509_free(x);
    if (!read)
        return fault_set(fault, EBADMSG, "%.200s is no certificate in PEM", path);
    *ret_days = seconds < 0 ? (int64_t)days - 1 : days;
    return 0;
}
