/* What Debian's libstdc++ takes from glibc, and musl does not have. On a system of musl's libstdc++ takes none of it. */
#include <locale.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

char __libc_single_threaded = 0;

uint32_t arc4random(void) { return 4; }

/* A name that musl keeps to itself, but for a program that it is linked into statically. */
__attribute__((weak)) size_t __strftime_l(char *text, size_t size, const char *format, const struct tm *time, locale_t locale) {
    return strftime_l(text, size, format, time, locale);
}

/* Not found: the unwinder then asks dl_iterate_phdr(). */
int _dl_find_object(void *address, void *result) {
    (void)address;
    (void)result;
    return -1;
}
