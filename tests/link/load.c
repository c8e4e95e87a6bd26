/* Loads a shared library that is a program, and runs it: load LIBRARY */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    void *function = library != NULL ? dlsym(library, "main") : NULL;
    int (*run)(void);
    int status;
    if (function == NULL) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "expected a library");
        return 1;
    }
    *(void **)&run = function;
    status = run();
    fflush(stdout);
    return dlclose(library) != 0 ? 1 : status;
}
