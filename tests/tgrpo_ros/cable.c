/* A network cable that can be pulled, for one process: loaded before libc (LD_PRELOAD).
 *
 * CABLE names a file of one 64-bit integer, mapped into memory: not 0 while the cable is out. Datagrams, which discovery
 * and topics use, are then lost in both directions without an error, as on a dead link. Streams are left alone.
 * Who is at the other end of a cable shares no memory, either.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

#define TOLD "CABLE"
#include "told.h"

static int lost(int socket) {
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    if (!told()) return 0;
    if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) || domain != AF_INET) return 0;
    return !getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_DGRAM;
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) real = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
    if (!lost(socket)) return real(socket, message, flags);
    ssize_t length = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++) length += (ssize_t)message->msg_iov[i].iov_len;
    return length;
}

ssize_t sendto(int socket, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!real)
        real = (ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "sendto");
    return lost(socket) ? (ssize_t)length : real(socket, data, length, flags, to, size);
}

/* What arrives meanwhile is read and thrown away. */
ssize_t recvmsg(int socket, struct msghdr *message, int flags) {
    static ssize_t (*real)(int, struct msghdr *, int);
    if (!real) real = (ssize_t (*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
    ssize_t length = real(socket, message, flags);
    while (length >= 0 && lost(socket)) length = real(socket, message, flags);
    return length;
}

ssize_t recvfrom(int socket, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *from_size) {
    static ssize_t (*real)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
    if (!real) real = (ssize_t (*)(int, void *, size_t, int, struct sockaddr *, socklen_t *))dlsym(RTLD_NEXT, "recvfrom");
    ssize_t length = real(socket, data, size, flags, from, from_size);
    while (length >= 0 && lost(socket)) length = real(socket, data, size, flags, from, from_size);
    return length;
}

int shm_open(const char *name, int flags, mode_t mode) {
    (void)name, (void)flags, (void)mode;
    errno = EACCES;
    return -1;
}
