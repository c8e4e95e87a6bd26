# Toolchain file for 64-bit ARM Linux: Debian's cross compiler, and qemu to run what was built. On an ARM host it does
# nothing, so that the same preset builds natively there.
#
# Libraries for the target are looked for in the folder SHUFFLENET_SYSROOT if that is given (`./dev setup arm64` fills
# one), otherwise where Debian installs packages of a foreign architecture (libpng-dev:arm64).
if(CMAKE_HOST_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  return()
endif()

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(libraries /usr/aarch64-linux-gnu)
if(SHUFFLENET_SYSROOT)
  if(NOT IS_DIRECTORY "${SHUFFLENET_SYSROOT}")
    message(FATAL_ERROR "SHUFFLENET_SYSROOT ${SHUFFLENET_SYSROOT}: no such folder; ./dev setup arm64 fills one")
  endif()
  set(CMAKE_SYSROOT "${SHUFFLENET_SYSROOT}")
  set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
  # Both: a user's own packages, for this target, need not be in it.
  set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
  set(libraries "${SHUFFLENET_SYSROOT}")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SHUFFLENET_SYSROOT)

find_program(SHUFFLENET_QEMU qemu-aarch64)
mark_as_advanced(SHUFFLENET_QEMU)
if(SHUFFLENET_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${SHUFFLENET_QEMU};-L;${libraries}")
endif()
