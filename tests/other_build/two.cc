// Two versions of the library in one program: first() and second() are program.cc with either one's headers.
#include <cstdio>

int first(int argc, char **argv);
int second(int argc, char **argv);

int main(int argc, char **argv) {
    const int status = first(argc, argv);
    std::puts("second");
    return status != 0 ? status : second(argc, argv);
}
