# The compiler runs while building. A build that cannot run its own, or should not make another one, takes that of another
# build or of an installed package, where SHUFFLENET_COMPILER says; a cross build without one makes it with the host's
# compiler, from this same project configured natively.
set(SHUFFLENET_COMPILER "" CACHE FILEPATH "shufflenet_compile of another build, to run here; empty: build it")

set(program "")
if(SHUFFLENET_COMPILER)
  if(NOT EXISTS "${SHUFFLENET_COMPILER}")
    message(FATAL_ERROR "SHUFFLENET_COMPILER ${SHUFFLENET_COMPILER}: no such file")
  endif()
  set(program "${SHUFFLENET_COMPILER}")
elseif(CMAKE_CROSSCOMPILING)
  include(ExternalProject)
  set(host "${PROJECT_BINARY_DIR}/host")
  set(SHUFFLENET_HOST_BUILD "${host}/build")
  set(program "${SHUFFLENET_HOST_BUILD}/bin/shufflenet_compile")
  set(host_options -D SHUFFLENET_BENCH=OFF)
  set(host_targets shufflenet_compile)
  if(SHUFFLENET_GUIDELINES)
    # What compiles the kernels of the experiments, and no networks.
    set(host_options -D SHUFFLENET_BENCH=ON -D SHUFFLENET_GUIDELINES=ON -D SHUFFLENET_GUIDELINES_QUICK=ON)
    list(APPEND host_targets guidelines_compile)
  endif()
  ExternalProject_Add(shufflenet_host_tools
    SOURCE_DIR "${PROJECT_SOURCE_DIR}"
    PREFIX "${host}"
    BINARY_DIR "${SHUFFLENET_HOST_BUILD}"
    # The environment may name the target's compiler.
    CONFIGURE_COMMAND "${CMAKE_COMMAND}" -E env --unset=CC --unset=CXX --unset=CFLAGS --unset=CXXFLAGS --unset=LDFLAGS
      "${CMAKE_COMMAND}" -S <SOURCE_DIR> -B <BINARY_DIR> -G "${CMAKE_GENERATOR}" -D CMAKE_BUILD_TYPE=Release
      -D SHUFFLENET_NETWORKS=OFF -D SHUFFLENET_CLI=OFF -D SHUFFLENET_IMAGE=OFF -D SHUFFLENET_TESTS=OFF
      ${host_options}
    BUILD_COMMAND "${CMAKE_COMMAND}" --build <BINARY_DIR> --target ${host_targets}
    BUILD_ALWAYS ON
    BUILD_BYPRODUCTS "${program}"
    INSTALL_COMMAND "")
endif()

if(program)
  add_executable(shufflenet_compile IMPORTED GLOBAL)
  set_property(TARGET shufflenet_compile PROPERTY IMPORTED_LOCATION "${program}")
  if(TARGET shufflenet_host_tools)
    add_dependencies(shufflenet_compile shufflenet_host_tools)
  endif()
endif()
