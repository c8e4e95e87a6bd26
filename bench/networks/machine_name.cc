// Prints what machine this is, for figures that are kept.
#include <cstdio>

#include "bench/common/machine_info.h"

int main() { return std::puts(shufflenet::bench::machine_name().c_str()) < 0; }
