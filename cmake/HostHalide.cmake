# For cross builds, the Halide that the host's generators use. Its package is for the host; the target needs one header
# of it, and the command line says its version.
set(libraries "/usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu")
find_path(SHUFFLENET_HALIDE_PACKAGE HalideConfigVersion.cmake PATHS "${libraries}/cmake" /usr/local/lib/cmake
  PATH_SUFFIXES Halide Halide14 Halide19 REQUIRED NO_CMAKE_FIND_ROOT_PATH)
include("${SHUFFLENET_HALIDE_PACKAGE}/HalideConfigVersion.cmake")
set(Halide_VERSION "${PACKAGE_VERSION}")
string(REGEX MATCH "^[0-9]+" major "${Halide_VERSION}")
find_path(SHUFFLENET_HALIDE_INCLUDE HalideRuntime.h PATHS /usr/local/include PATH_SUFFIXES halide${major} REQUIRED
  NO_CMAKE_FIND_ROOT_PATH)
find_library(SHUFFLENET_HALIDE_LIBRARY NAMES Halide${major} Halide PATHS "${libraries}" /usr/local/lib REQUIRED
  NO_CMAKE_FIND_ROOT_PATH)
mark_as_advanced(SHUFFLENET_HALIDE_PACKAGE SHUFFLENET_HALIDE_INCLUDE SHUFFLENET_HALIDE_LIBRARY)

# Nothing links with it.
add_library(Halide::Halide UNKNOWN IMPORTED GLOBAL)
set_target_properties(Halide::Halide PROPERTIES IMPORTED_LOCATION "${SHUFFLENET_HALIDE_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${SHUFFLENET_HALIDE_INCLUDE}")
