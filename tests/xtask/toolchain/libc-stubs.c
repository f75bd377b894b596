/* What the standard library of Rust refers to on wasm32-wasip2 and Debian's wasi-libc of 2022 lacks.
   There are no threads, and no call on a socket succeeds. Weak, so that a newer libc wins. */
#include <errno.h>
#include <stddef.h>

#define WEAK __attribute__((weak))
#define FAILS(code) { errno = (code); return -1; }

WEAK int pthread_attr_init(void *attr) { return 0; }
WEAK int pthread_attr_setstacksize(void *attr, size_t size) { return 0; }
WEAK int pthread_attr_destroy(void *attr) { return 0; }
WEAK int pthread_create(void *thread, const void *attr, void *(*start)(void *), void *arg) { return EAGAIN; }
WEAK int pthread_detach(void *thread) { return 0; }
WEAK int pthread_join(void *thread, void **result) { return EINVAL; }

WEAK int socket(int domain, int type, int protocol) FAILS(EAFNOSUPPORT)
WEAK int bind(int fd, const void *address, unsigned length) FAILS(ENOTSUP)
WEAK int listen(int fd, int backlog) FAILS(ENOTSUP)
WEAK int connect(int fd, const void *address, unsigned length) FAILS(ENOTSUP)
WEAK int getsockname(int fd, void *address, void *length) FAILS(ENOTSUP)
WEAK int getpeername(int fd, void *address, void *length) FAILS(ENOTSUP)
WEAK int setsockopt(int fd, int level, int name, const void *value, unsigned length) FAILS(ENOTSUP)
WEAK long sendto(int fd, const void *data, size_t size, int flags, const void *to, unsigned length) FAILS(ENOTSUP)
WEAK long recvfrom(int fd, void *data, size_t size, int flags, void *from, void *length) FAILS(ENOTSUP)

/* -4 is EAI_FAIL. */
WEAK int getaddrinfo(const char *host, const char *service, const void *hints, void **result) { return -4; }
WEAK void freeaddrinfo(void *result) {}
WEAK const char *gai_strerror(int code) { return "name lookup is not available"; }
