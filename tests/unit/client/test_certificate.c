// SPDX-License-Identifier: MIT
// A made certificate is for the name and the address, holds as long as it says, and fits its key.
#include "client/certificate.h"
#include "tests/check.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

static void write_file(const char *path, const char *bytes, size_t n)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
}

int main(void)
{
    char path[] = "/tmp/certificate-XXXXXX";
    struct text certificate = {0}, key = {0};
    struct fault fault = {0};
    int64_t days = 0;

    int fd = mkstemp(path);
    CHECK(fd >= 0 && close(fd) == 0);
    CHECK(certificate_make("node1", "10.77.0.2", &certificate, &key, &fault) == 0);
    BIO *first = BIO_new_mem_buf(certificate.bytes, -1), *second = BIO_new_mem_buf(key.bytes, -1);
    X509 *x = PEM_read_bio_X509(first, NULL, NULL, NULL);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(second, NULL, NULL, NULL);
    CHECK(x && pkey && X509_check_private_key(x, pkey) == 1 && X509_verify(x, pkey) == 1);
    CHECK(X509_check_host(x, "node1", 0, 0, NULL) == 1);
    CHECK(X509_check_host(x, "node2", 0, 0, NULL) == 0);
    CHECK(X509_check_ip_asc(x, "10.77.0.2", 0) == 1 && X509_check_ip_asc(x, "10.77.0.3", 0) == 0);
    X509_free(x);
    EVP_PKEY_free(pkey);
    BIO_free(first);
    BIO_free(second);

    write_file(path, certificate.bytes, certificate.n);
    CHECK(certificate_days(path, &days, &fault) == 0);
    CHECK(days >= CERTIFICATE_DAYS - 2 && days < CERTIFICATE_DAYS);
    write_file(path, key.bytes, key.n);
    CHECK(certificate_days(path, &days, &fault) == -EBADMSG && strstr(fault.text, "PEM"));
    CHECK(unlink(path) == 0 && certificate_days(path, &days, &fault) == -ENOENT);
    text_clear(&certificate);
    text_clear(&key);
    CHECK(certificate_make("node1", "", &certificate, &key, &fault) == 0); // DHCP: no address yet
    text_free(&certificate);
    text_free(&key);
    return 0;
}
