# Programs that run while building, as imported targets, for builds that cannot run their own: a cross build takes those
# of a native build or installation, where SHUFFLENET_GENERATORS says, or else makes them with the host's compiler, from
# this same project configured natively.
set(SHUFFLENET_GENERATORS "" CACHE FILEPATH
  "shufflenet_generators of another build, to run here, with shufflenet_prepare beside it; empty: build them")
set(tools shufflenet_generators shufflenet_prepare)

set(folder "")
if(SHUFFLENET_GENERATORS)
  get_filename_component(folder "${SHUFFLENET_GENERATORS}" DIRECTORY)
  foreach(tool ${tools})
    if(NOT EXISTS "${folder}/${tool}")
      message(FATAL_ERROR "SHUFFLENET_GENERATORS ${SHUFFLENET_GENERATORS}: there is no program ${tool} in that folder")
    endif()
  endforeach()
elseif(CMAKE_CROSSCOMPILING)
  include(ExternalProject)
  set(host "${PROJECT_BINARY_DIR}/host")
  set(SHUFFLENET_HOST_BUILD "${host}/build")
  set(folder "${SHUFFLENET_HOST_BUILD}/bin")
  list(TRANSFORM tools PREPEND "${folder}/" OUTPUT_VARIABLE programs)
  ExternalProject_Add(shufflenet_host_tools
    SOURCE_DIR "${PROJECT_SOURCE_DIR}"
    PREFIX "${host}"
    BINARY_DIR "${SHUFFLENET_HOST_BUILD}"
    # The environment may name the target's compiler.
    CONFIGURE_COMMAND "${CMAKE_COMMAND}" -E env --unset=CC --unset=CXX --unset=CFLAGS --unset=CXXFLAGS --unset=LDFLAGS
      "${CMAKE_COMMAND}" -S <SOURCE_DIR> -B <BINARY_DIR> -G "${CMAKE_GENERATOR}" -D CMAKE_BUILD_TYPE=Release
      -D SHUFFLENET_NETWORKS=OFF -D SHUFFLENET_CLI=OFF -D SHUFFLENET_IMAGE=OFF -D SHUFFLENET_TESTS=OFF
      -D SHUFFLENET_BENCH=OFF
    BUILD_COMMAND "${CMAKE_COMMAND}" --build <BINARY_DIR> --target ${tools}
    BUILD_ALWAYS ON
    BUILD_BYPRODUCTS ${programs}
    INSTALL_COMMAND "")
endif()

if(folder)
  foreach(tool ${tools})
    add_executable(${tool} IMPORTED GLOBAL)
    set_property(TARGET ${tool} PROPERTY IMPORTED_LOCATION "${folder}/${tool}")
    if(TARGET shufflenet_host_tools)
      add_dependencies(${tool} shufflenet_host_tools)
    endif()
  endforeach()
endif()
