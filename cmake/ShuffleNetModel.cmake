# shufflenet_add_model(): a network, fixed at build time, as one static library and one header.
#
# A thin client of the compiler, shufflenet_compile, which says what there is and checks what it is given: see its --help.
# Used from the source tree and from an installed package (ShuffleNetConfig.cmake.in) alike. Both have the targets
# ShuffleNet::compile, ShuffleNet::runtime and ShuffleNet::device_runtime, and shufflenet_halide_runtime, whose property
# SHUFFLENET_OBJECT is a file.

include("${CMAKE_CURRENT_LIST_DIR}/Platform.cmake")

set(SHUFFLENET_TARGETS "" CACHE STRING
  "Instruction sets of models that do not name any, as shufflenet_compile --targets has them; empty: all")
set(SHUFFLENET_DEVICES "" CACHE STRING "Devices that models are compiled for beside the CPU: opencl, cuda")
set(SHUFFLENET_CUDA_CAPABILITY 70 CACHE STRING "Oldest compute capability that PTX is compiled for: 70, 75 or 80")

# In the cache, because a program that adds this project as a subdirectory calls shufflenet_add_model() from its own scope.
function(_shufflenet_settings)
  _shufflenet_platform(processor error)
  if(error)
    message(FATAL_ERROR "ShuffleNet: ${error}")
  endif()
  set(SHUFFLENET_PROCESSOR ${processor} CACHE INTERNAL "")

  # What an archive links with.
  set(options "-lstdc++ -lm")
  if(SHUFFLENET_THREADS)
    string(APPEND options " -lpthread")
  endif()
  set(SHUFFLENET_LINK_OPTIONS "${options}" CACHE INTERNAL "")

  # What our code is compiled with after the flags of the program around it, which may ask for another arithmetic, for no
  # exceptions, or for objects that only one compiler can link.
  set(SHUFFLENET_OWN_OPTIONS -fno-fast-math -ffp-contract=off -fexceptions -frtti -fthreadsafe-statics -fno-lto
    CACHE INTERNAL "")
endfunction()
_shufflenet_settings()

# shufflenet_add_model(NAME name NETWORK network|ONNX file.onnx [INPUT height width] [CLASSES n] [OUTPUTS output...]
#                      [UNITS n... CHANNELS n... [CONV5 n] [ACTIVATION activation] [POOL_STRIDE rows columns]]
#                      [PRECISION f32] [TARGETS isa...] [DEVICES device...]
#                      [CLASSIFIER_BITS 16|32]
#                      [WEIGHTS file.safetensors] [EMBED [F16]] [METADATA file.json] [TUNED path])
#
# Makes the library target <name>: lib<name>.a holds the kernels, what they need of Halide's runtime, and ours; it links
# with libstdc++, libm and pthreads alone; <name>.h is beside it. NETWORK is a published network, or with UNITS and what
# follows shufflenet_v2; ONNX a file with its weights. OUTPUTS: what a run returns (default: the last that there is);
# nothing else is computed.
# Without EMBED, WEIGHTS is copied beside the library and its name is in the header; with EMBED the archive contains the
# weights, checked and packed, and with F16 in half precision. METADATA (labels, resize, mean, std; default: the weight
# file's name with .json, if there) is embedded either way.
# CLASSIFIER_BITS 16: the last linear layer's weights are integers of 16 bits.
# DEVICES: opencl, cuda (default: the variable SHUFFLENET_DEVICES, empty unless the preset says otherwise).
# TUNED: tuned numbers of one's own, <target>.json or a folder of such files.
# REFERENCE (for tests) builds with the reference schedule.
function(shufflenet_add_model)
  set(single NAME NETWORK ONNX CLASSES CONV5 ACTIVATION PRECISION CLASSIFIER_BITS WEIGHTS METADATA TUNED)
  set(lists UNITS CHANNELS POOL_STRIDE OUTPUTS INPUT TARGETS DEVICES)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "REFERENCE" "${single}" "${lists};EMBED")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "shufflenet_add_model: unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  set(embed FALSE)
  if(DEFINED ARG_EMBED OR "EMBED" IN_LIST ARG_KEYWORDS_MISSING_VALUES)
    set(embed TRUE)
    list(REMOVE_ITEM ARG_KEYWORDS_MISSING_VALUES EMBED)
  endif()
  if(ARG_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): no value for: ${ARG_KEYWORDS_MISSING_VALUES}")
  endif()
  if(NOT "${ARG_EMBED}" MATCHES "^(F16)?$")
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): EMBED ${ARG_EMBED}: expected nothing or F16")
  endif()
  if(embed AND NOT ARG_WEIGHTS AND NOT ARG_ONNX)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): EMBED needs WEIGHTS or ONNX")
  endif()
  if(NOT ARG_NAME MATCHES "^[a-z][a-z0-9_]*$")
    message(FATAL_ERROR "shufflenet_add_model: NAME \"${ARG_NAME}\": expected a C identifier in lower case")
  endif()
  if(NOT DEFINED ARG_TARGETS)
    set(ARG_TARGETS ${SHUFFLENET_TARGETS})
  endif()
  if(NOT DEFINED ARG_DEVICES)
    set(ARG_DEVICES ${SHUFFLENET_DEVICES})
  endif()
  foreach(key WEIGHTS ONNX METADATA TUNED)
    if(DEFINED ARG_${key})
      _shufflenet_check_path("${ARG_${key}}")
      get_filename_component(ARG_${key} "${ARG_${key}}" ABSOLUTE)
      if(NOT EXISTS "${ARG_${key}}")
        message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): ${key} ${ARG_${key}}: no such file")
      endif()
    endif()
  endforeach()

  # Everything else is the compiler's to check: the arguments are its options.
  set(name ${ARG_NAME})
  set(dir "${CMAKE_CURRENT_BINARY_DIR}/${name}")
  _shufflenet_check_path("${dir}")
  set(arguments --processor ${SHUFFLENET_PROCESSOR} --output "${dir}" --objects --quiet)
  foreach(key ${single} ${lists})
    if(DEFINED ARG_${key} AND NOT "${ARG_${key}}" STREQUAL "")
      string(TOLOWER "--${key}" option)
      string(REPLACE "_" "-" option "${option}")
      list(JOIN ARG_${key} "," values)
      list(APPEND arguments ${option} "${values}")
    endif()
  endforeach()
  set(objects "${dir}/${name}_kernels.o")
  if(embed AND ARG_EMBED)
    list(APPEND arguments --embed-f16)
  elseif(embed)
    list(APPEND arguments --embed)
  endif()
  if(SHUFFLENET_ABI)
    list(APPEND arguments --abi ${SHUFFLENET_ABI})
  endif()
  if(ARG_REFERENCE)
    list(APPEND arguments --reference)
  endif()
  if(ARG_DEVICES MATCHES cuda)
    list(APPEND arguments --cuda-capability ${SHUFFLENET_CUDA_CAPABILITY})
  endif()
  if(SHUFFLENET_SANITIZE MATCHES "address")
    list(APPEND arguments --asan)
  endif()
  # A compiler that is there already says at once what is wrong.
  get_property(imported TARGET ShuffleNet::compile PROPERTY IMPORTED)
  if(imported)
    get_property(program TARGET ShuffleNet::compile PROPERTY LOCATION)
    if(EXISTS "${program}")
      execute_process(COMMAND "${program}" ${arguments} --check RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE error)
      if(NOT result EQUAL 0)
        string(REGEX REPLACE "^shufflenet_compile: error: |\n$" "" error "${error}")
        message(FATAL_ERROR "shufflenet_add_model(${name}): ${error}")
      endif()
    endif()
  endif()
  if(NOT CMAKE_CXX_COMPILE_OBJECT)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): C++ is not enabled in this folder: project(... LANGUAGES C CXX), or enable_language(CXX), before it")
  endif()
  add_custom_command(
    OUTPUT "${dir}/${name}.cc" "${dir}/${name}.h" ${objects}
    COMMAND ShuffleNet::compile ${arguments} --cxx "${CMAKE_CXX_COMPILER}" --depfile "${dir}/${name}.d"
    DEPENDS ShuffleNet::compile
    DEPFILE "${dir}/${name}.d"
    COMMENT "Compiling ${name}"
    VERBATIM)

  get_property(runtime_object TARGET shufflenet_halide_runtime PROPERTY SHUFFLENET_OBJECT)
  set(device_runtime "")
  if(ARG_DEVICES)
    set(device_runtime $<TARGET_OBJECTS:ShuffleNet::device_runtime>)
  endif()
  add_library(${name} STATIC "${dir}/${name}.cc" "${dir}/${name}.h" ${objects} "${runtime_object}"
    $<TARGET_OBJECTS:ShuffleNet::runtime> ${device_runtime})
  set_source_files_properties(${objects} "${runtime_object}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  add_dependencies(${name} shufflenet_halide_runtime)
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${dir}>
    $<BUILD_INTERFACE:$<TARGET_PROPERTY:ShuffleNet::runtime,INTERFACE_INCLUDE_DIRECTORIES>>)
  # A linker of C++ programs adds its library itself; others are for programs in C.
  set(libraries $<$<NOT:$<LINK_LANGUAGE:CXX>>:stdc++> m)
  if(SHUFFLENET_THREADS)
    list(APPEND libraries Threads::Threads)
  endif()
  target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:$<TARGET_NAME_IF_EXISTS:shufflenet_options>>
    INTERFACE ${libraries})
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_compile_options(${name} PRIVATE ${SHUFFLENET_OWN_OPTIONS} $<$<NOT:$<TARGET_EXISTS:shufflenet_options>>:-w>)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON UNITY_BUILD OFF COMPILE_WARNING_AS_ERROR OFF)
endfunction()
