# shufflenet_add_model(): a network, fixed at build time, as one static library and one header.
#
# Used from the source tree and from an installed package (ShuffleNetConfig.cmake.in) alike. Both have this folder,
# networks/ and schedules/tuned/ beside each other, the targets ShuffleNet::generators, ShuffleNet::prepare,
# ShuffleNet::runtime and ShuffleNet::device_runtime, and shufflenet_halide_runtime, whose property SHUFFLENET_OBJECT is
# a file.

include("${CMAKE_CURRENT_LIST_DIR}/Platform.cmake")

set(SHUFFLENET_TARGETS "" CACHE STRING
  "Instruction sets of models that do not name any; empty: all; plainest: the processor's first one")
set(SHUFFLENET_DEVICES "" CACHE STRING "Devices that models are compiled for beside the CPU: opencl, cuda")
set(SHUFFLENET_CUDA_CAPABILITY 70 CACHE STRING "Oldest compute capability that PTX is compiled for: 70, 75 or 80")

# The rows of a table of networks/ that match. Configures again when it changes.
function(_shufflenet_rows out table regex)
  set(file "${SHUFFLENET_ROOT}/networks/${table}.h")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
  file(STRINGS "${file}" rows REGEX "${regex}")
  set(${out} "${rows}" PARENT_SCOPE)
endfunction()

# What the tables say: the processor's instruction sets, devices, networks. Functions, because who finds the package has
# variables of his own; in the cache, because a program that adds this project as a subdirectory calls
# shufflenet_add_model() from its own scope.
function(_shufflenet_read_targets)
  _shufflenet_platform(processor error)
  if(error)
    message(FATAL_ERROR "ShuffleNet: ${error}")
  endif()
  _shufflenet_rows(rows targets "^    {\"[a-z0-9]+\", \"${processor}\", ")
  set(names "")
  foreach(row ${rows})
    string(REGEX MATCH "\"([a-z0-9]+)\", \"[a-z0-9_]+\", [0-9]+, [0-9]+, \"([^\"]+)\"(, ([0-9]))?" matched "${row}")
    list(APPEND names ${CMAKE_MATCH_1})
    set(SHUFFLENET_HALIDE_TARGET_${CMAKE_MATCH_1} ${CMAKE_MATCH_2} CACHE INTERNAL "")
    set(SHUFFLENET_MACHINE_${CMAKE_MATCH_1} "" CACHE INTERNAL "")
    if(CMAKE_MATCH_4)
      set(SHUFFLENET_MACHINE_${CMAKE_MATCH_1} fma_units=${CMAKE_MATCH_4} CACHE INTERNAL "")
    endif()
    # Architecture, bits and operating system, without features: what Halide's runtime is compiled for.
    string(REGEX MATCH "^[a-z0-9]+-[0-9]+-[a-z]+" base "${CMAKE_MATCH_2}")
  endforeach()
  set(SHUFFLENET_ALL_TARGETS ${names} CACHE INTERNAL "")
  set(SHUFFLENET_HALIDE_BASE ${base} CACHE INTERNAL "")
  _shufflenet_rows(row targets "kKernelFeatures = ")
  string(REGEX MATCH "\"([^\"]+)\"" matched "${row}")
  set(features ${CMAKE_MATCH_1})
  if(SHUFFLENET_SANITIZE MATCHES "address")
    string(APPEND features "-asan")
  endif()
  set(SHUFFLENET_KERNEL_FEATURES ${features} CACHE INTERNAL "")

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

function(_shufflenet_read_devices)
  _shufflenet_rows(rows devices "^    {\"[a-z0-9]+\", \"[a-z]+\", ")
  set(names "")
  foreach(row ${rows})
    string(REGEX MATCH "\"([a-z0-9]+)\", \"([a-z]+)\"" matched "${row}")
    set(feature ${CMAKE_MATCH_2})
    if(feature STREQUAL "cuda")
      string(APPEND feature -cuda_capability_${SHUFFLENET_CUDA_CAPABILITY})
    endif()
    list(APPEND names ${CMAKE_MATCH_1})
    set(SHUFFLENET_HALIDE_TARGET_${CMAKE_MATCH_1} ${SHUFFLENET_HALIDE_BASE}-${feature} CACHE INTERNAL "")
  endforeach()
  set(SHUFFLENET_ALL_DEVICES ${names} CACHE INTERNAL "")
  _shufflenet_rows(row devices "kMostImages = ")
  string(REGEX MATCH "[0-9]+" images "${row}")
  set(SHUFFLENET_MOST_IMAGES ${images} CACHE INTERNAL "")
endfunction()

# The networks that NETWORK may name: those of the paper, and the comparison networks, with the number of their kernels
# and the side of the images that they are published for.
function(_shufflenet_read_networks)
  _shufflenet_rows(rows network "^    {\"[a-z0-9_]+\", {")
  list(TRANSFORM rows REPLACE "^    {\"([a-z0-9_]+)\".*" "\\1")
  set(SHUFFLENET_NETWORK_NAMES ${rows} CACHE INTERNAL "")
  _shufflenet_rows(rows comparison "^    {\"[a-z0-9_]+\", detail::")
  set(names "")
  foreach(row ${rows})
    string(REGEX MATCH "\"([a-z0-9_]+)\".*}, ([0-9]+), ([0-9]+), [0-9]+}" matched "${row}")
    list(APPEND names ${CMAKE_MATCH_1})
    set(SHUFFLENET_CROP_${CMAKE_MATCH_1} ${CMAKE_MATCH_2} CACHE INTERNAL "")
    set(SHUFFLENET_STEPS_${CMAKE_MATCH_1} ${CMAKE_MATCH_3} CACHE INTERNAL "")
  endforeach()
  set(SHUFFLENET_COMPARISON_NAMES ${names} CACHE INTERNAL "")
endfunction()

function(_shufflenet_read_tables)
  get_filename_component(root "${CMAKE_CURRENT_FUNCTION_LIST_DIR}" DIRECTORY)
  set(SHUFFLENET_ROOT "${root}" CACHE INTERNAL "")
  _shufflenet_read_targets()
  _shufflenet_read_devices()
  _shufflenet_read_networks()
endfunction()
_shufflenet_read_tables()

# Links objects into one, hides their symbols, and renames halide_* so that a model library's Halide runtime never meets
# that of the program which links it, nor another version's. KEEP: a regular expression of the functions to keep; default: all.
function(shufflenet_rename_halide)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "" "OUTPUT;KEEP" "INPUTS")
  get_filename_component(name "${ARG_OUTPUT}" NAME)
  add_custom_command(
    OUTPUT "${ARG_OUTPUT}"
    COMMAND "${CMAKE_COMMAND}" -D "OUTPUT=${ARG_OUTPUT}" -D "INPUTS=${ARG_INPUTS}" -D "KEEP=${ARG_KEEP}"
            -D "PREFIX=shufflenet_${SHUFFLENET_ABI}" -D "CXX=${CMAKE_CXX_COMPILER}"
            -D "LD=${CMAKE_LINKER}" -D "NM=${CMAKE_NM}" -D "OBJCOPY=${CMAKE_OBJCOPY}" -P "${SHUFFLENET_ROOT}/cmake/rename_halide.cmake"
    DEPENDS ${ARG_INPUTS} "${SHUFFLENET_ROOT}/cmake/rename_halide.cmake"
    COMMENT "Renaming Halide symbols in ${name}"
    VERBATIM)
endfunction()

# The kernels of a model as "name|generator|parameters": one line for each generated function.
function(_shufflenet_kernels out network)
  if(network IN_LIST SHUFFLENET_COMPARISON_NAMES)
    set(kernels "fc|fc|")
    math(EXPR last "${SHUFFLENET_STEPS_${network}} - 1")
    foreach(step RANGE ${last})
      list(APPEND kernels "step${step}|chain|step=${step}")
    endforeach()
    set(${out} "${kernels}" PARENT_SCOPE)
    return()
  endif()
  set(kernels "stem|stem|")
  foreach(stage 2 3 4)
    list(APPEND kernels
      "stage${stage}_down_branch1|branch1|stage=${stage}"
      "stage${stage}_down_branch2|branch2|stage=${stage} downsample=true"
      "stage${stage}_basic|branch2|stage=${stage}")
  endforeach()
  list(APPEND kernels "conv5|conv5|" "conv5_pool|conv5_pool|" "fc|fc|")
  set(${out} "${kernels}" PARENT_SCOPE)
endfunction()

# The kernels of a model on a device, likewise.
function(_shufflenet_device_kernels out)
  set(kernels "stem|batched_stem|")
  foreach(stage 2 3 4)
    list(APPEND kernels "stage${stage}_down_branch1|batched_branch1|stage=${stage}")
    foreach(unit down basic)
      set(parameters "stage=${stage}")
      if(unit STREQUAL "down")
        string(APPEND parameters " downsample=true")
      endif()
      list(APPEND kernels
        "stage${stage}_${unit}_branch2|batched_branch2|${parameters}"
        "stage${stage}_${unit}_expand|batched_expand|${parameters}"
        "stage${stage}_${unit}_project|batched_project|${parameters}")
    endforeach()
  endforeach()
  list(APPEND kernels "conv5|batched_conv5|" "conv5_pool|batched_conv5_pool|" "fc|fc|")
  set(${out} "${kernels}" PARENT_SCOPE)
endfunction()

# Adds the commands that generate one kernel for one instruction set; the object's path goes to ${out}. NETWORK, HEIGHT,
# WIDTH: of a model's kernels. TUNED: a file of tuned numbers; TUNED_AS: the kernel whose numbers they are, if not of the same name.
function(_shufflenet_generate out dir isa line)
  cmake_parse_arguments(PARSE_ARGV 4 ARG "REFERENCE" "NAME;NETWORK;HEIGHT;WIDTH;TUNED;TUNED_AS;WITHOUT" "")
  string(REPLACE "|" ";" fields "${line}")
  list(GET fields 0 kernel)
  list(GET fields 1 generator)
  list(GET fields 2 parameters)
  separate_arguments(parameters UNIX_COMMAND "${parameters}")
  if(ARG_REFERENCE)
    list(APPEND parameters reference=true)
  endif()
  if(ARG_WITHOUT)
    list(APPEND parameters without=${ARG_WITHOUT})
  endif()
  if(ARG_TUNED)
    list(APPEND parameters "tuned=${ARG_TUNED}")
  endif()
  set(symbol "${ARG_NAME}_${isa}_${kernel}")
  if(NOT ARG_TUNED_AS)
    set(ARG_TUNED_AS ${kernel})
  endif()
  set(model "")
  if(ARG_NETWORK)
    set(model network=${ARG_NETWORK} height=${ARG_HEIGHT} width=${ARG_WIDTH} kernel=${ARG_TUNED_AS})
  endif()
  add_custom_command(
    OUTPUT "${dir}/${symbol}.o"
    COMMAND ShuffleNet::generators -g ${generator} -f ${symbol} -o "${dir}" -e assembly
            target=${SHUFFLENET_HALIDE_TARGET_${isa}}-${SHUFFLENET_KERNEL_FEATURES} ${SHUFFLENET_MACHINE_${isa}}
            ${model} ${parameters}
    COMMAND "${CMAKE_COMMAND}" -D "OUTPUT=${dir}/${symbol}.o" -D "INPUT=${dir}/${symbol}.s" -D "CXX=${CMAKE_CXX_COMPILER}"
            -P "${SHUFFLENET_ROOT}/cmake/assemble_kernel.cmake"
    DEPENDS ShuffleNet::generators ${ARG_TUNED} "${SHUFFLENET_ROOT}/cmake/assemble_kernel.cmake"
    COMMENT "Generating ${symbol}"
    VERBATIM)
  set(${out} "${dir}/${symbol}.o" PARENT_SCOPE)
endfunction()

# The file of a model's tuned numbers in a folder, if there is one for its network and input size; otherwise nothing.
function(_shufflenet_tuned out folder isa name network height width)
  set(${out} "" PARENT_SCOPE)
  # Configures again when a file comes or goes.
  file(GLOB files CONFIGURE_DEPENDS "${folder}/${isa}/*.json")
  set(file "${folder}/${isa}/${name}.json")
  if(NOT file IN_LIST files)
    return()
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
  file(READ "${file}" text)
  set(found "")
  foreach(key "network" "input;0" "input;1")
    string(JSON value ERROR_VARIABLE error GET "${text}" ${key})
    if(error)
      message(FATAL_ERROR "${file}: ${key}: ${error}")
    endif()
    list(APPEND found "${value}")
  endforeach()
  if(found STREQUAL "${network};${height};${width}")
    set(${out} "${file}" PARENT_SCOPE)
  endif()
endfunction()

# The numbers of images from which a device's file of tuned numbers has others, in order; for each of them, n,
# ${out}_n is the list of kernels that it has numbers for, each of which is one of ${kernels}; without these, for a CPU,
# it may have none.
function(_shufflenet_batches out file kernels)
  set(${out} "" PARENT_SCOPE)
  if(NOT file)
    return()
  endif()
  file(READ "${file}" text)
  string(JSON type ERROR_VARIABLE absent TYPE "${text}" batches)
  if(absent)
    return()
  elseif(NOT kernels)
    message(FATAL_ERROR "${file}: batches: expected in files of devices only")
  elseif(NOT type STREQUAL "OBJECT")
    message(FATAL_ERROR "${file}: batches: expected an object, found ${type}")
  endif()
  list(TRANSFORM kernels REPLACE "\\|.*" "")
  set(batches "")
  string(JSON count LENGTH "${text}" batches)
  while(count GREATER 0)
    math(EXPR count "${count} - 1")
    string(JSON batch MEMBER "${text}" batches ${count})
    string(JSON type TYPE "${text}" batches "${batch}")
    if(NOT batch MATCHES "^([2-9]|[1-9][0-9]+)$" OR batch GREATER SHUFFLENET_MOST_IMAGES OR NOT type STREQUAL "OBJECT")
      message(FATAL_ERROR "${file}: batches: expected kernels by a number of images from 2 to ${SHUFFLENET_MOST_IMAGES}, found \"${batch}\"")
    endif()
    list(APPEND batches ${batch})
    set(listed "")
    string(JSON left LENGTH "${text}" batches ${batch})
    while(left GREATER 0)
      math(EXPR left "${left} - 1")
      string(JSON kernel MEMBER "${text}" batches ${batch} ${left})
      if(NOT kernel IN_LIST kernels)
        message(FATAL_ERROR "${file}: batches.${batch}: unknown kernel \"${kernel}\"")
      endif()
      list(APPEND listed ${kernel})
    endwhile()
    set(${out}_${batch} "${listed}" PARENT_SCOPE)
  endwhile()
  list(SORT batches COMPARE NATURAL)
  set(${out} "${batches}" PARENT_SCOPE)
endfunction()

# The C initialiser of one instruction set's kernels.
function(_shufflenet_kernel_table out name network isa)
  set(p "${name}_${isa}")
  if(network IN_LIST SHUFFLENET_COMPARISON_NAMES)
    set(${out} "    {\"${isa}\", nullptr, {}, {}, {}, nullptr, nullptr, ${p}_fc, ${p}_steps},\n" PARENT_SCOPE)
    return()
  endif()
  string(CONCAT table "    {\"${isa}\", ${p}_stem,\n"
    "     {${p}_stage2_down_branch1, ${p}_stage3_down_branch1, ${p}_stage4_down_branch1},\n"
    "     {${p}_stage2_down_branch2, ${p}_stage3_down_branch2, ${p}_stage4_down_branch2},\n"
    "     {${p}_stage2_basic, ${p}_stage3_basic, ${p}_stage4_basic},\n"
    "     ${p}_conv5, ${p}_conv5_pool, ${p}_fc, nullptr},\n")
  set(${out} "${table}" PARENT_SCOPE)
endfunction()

# The same of a device's for runs of ${batch} images and more; the variables symbol_<kernel> are the functions.
function(_shufflenet_device_table out device batch)
  set(table "    {\"${device}\", ${batch}, ${symbol_stem},\n")
  foreach(kernel down_branch1 down_branch2 down_expand basic_branch2 basic_expand down_project basic_project)
    string(APPEND table "     {${symbol_stage2_${kernel}}, ${symbol_stage3_${kernel}}, ${symbol_stage4_${kernel}}},\n")
  endforeach()
  string(APPEND table "     ${symbol_conv5}, ${symbol_conv5_pool}, ${symbol_fc}},\n")
  set(${out} "${table}" PARENT_SCOPE)
endfunction()

# A typing error should fail at configure time.
function(_shufflenet_check_arguments name network height width classes targets)
  if(NOT name MATCHES "^[a-z][a-z0-9_]*$")
    message(FATAL_ERROR "shufflenet_add_model: NAME \"${name}\": expected a C identifier in lower case")
  endif()
  if(NOT network IN_LIST SHUFFLENET_NETWORK_NAMES AND NOT network IN_LIST SHUFFLENET_COMPARISON_NAMES)
    list(APPEND SHUFFLENET_NETWORK_NAMES ${SHUFFLENET_COMPARISON_NAMES})
    list(FILTER SHUFFLENET_NETWORK_NAMES EXCLUDE REGEX "^test_")
    list(JOIN SHUFFLENET_NETWORK_NAMES ", " names)
    message(FATAL_ERROR "shufflenet_add_model(${name}): NETWORK \"${network}\": expected one of ${names}")
  endif()
  foreach(size ${height} ${width})
    if(NOT size MATCHES "^[0-9]+$" OR size GREATER 1024 OR (size LESS 32 AND NOT network MATCHES "^test_"))
      message(FATAL_ERROR "shufflenet_add_model(${name}): INPUT ${height} ${width}: expected height and width from 32 to 1024")
    endif()
  endforeach()
  if(NOT classes MATCHES "^[0-9]+$" OR classes LESS 1 OR classes GREATER 100000)
    message(FATAL_ERROR "shufflenet_add_model(${name}): CLASSES ${classes}: expected 1 to 100000")
  endif()
  foreach(target ${targets})
    if(NOT target IN_LIST SHUFFLENET_ALL_TARGETS)
      message(FATAL_ERROR "shufflenet_add_model(${name}): TARGETS ${target}: expected some of ${SHUFFLENET_ALL_TARGETS}")
    endif()
  endforeach()
endfunction()

# shufflenet_add_model(NAME name NETWORK network [INPUT height width] [CLASSES n] [TARGETS isa...]
#                      [DEVICES device...] [WEIGHTS file.safetensors] [EMBED [F16]] [METADATA file.json]
#                      [TUNED folder])
#
# Makes the library target <name>: lib<name>.a holds the kernels, what they need of Halide's runtime, and ours; it links
# with libstdc++, libm and pthreads alone; <name>.h is beside it. Without EMBED, WEIGHTS is copied beside the library and
# its name is in the header; with EMBED the archive contains the weights, checked, and with F16 in half precision.
# METADATA (labels, resize, mean, std; default: the weight file's name with .json, if there) is embedded either way.
# DEVICES: opencl, cuda (default: the variable SHUFFLENET_DEVICES, empty unless the preset says otherwise).
# TUNED: a folder of one's own tuned numbers, <target>/<name>.json (default: schedules/tuned).
# REFERENCE (for tests) builds with the reference schedule, WITHOUT work (for experiments) leaves work out of the kernels,
# as generators/kernel_generator.h says.
function(shufflenet_add_model)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "REFERENCE" "NAME;NETWORK;CLASSES;WEIGHTS;METADATA;TUNED;WITHOUT"
    "INPUT;TARGETS;DEVICES;EMBED")
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
  if(DEFINED ARG_WITHOUT AND NOT ARG_WITHOUT MATCHES "^(element_wise|depthwise|data_movement)$")
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): WITHOUT ${ARG_WITHOUT}: expected element_wise, depthwise or data_movement")
  endif()
  if(NOT DEFINED ARG_INPUT)
    set(ARG_INPUT 224 224)
  endif()
  if(NOT DEFINED ARG_CLASSES)
    set(ARG_CLASSES 1000)
  endif()
  if(NOT DEFINED ARG_TARGETS)
    set(ARG_TARGETS ${SHUFFLENET_TARGETS})
  endif()
  if(NOT ARG_TARGETS)
    set(ARG_TARGETS ${SHUFFLENET_ALL_TARGETS})
  elseif("${ARG_TARGETS}" STREQUAL "plainest")
    list(GET SHUFFLENET_ALL_TARGETS 0 ARG_TARGETS)
  endif()
  if(NOT DEFINED ARG_DEVICES)
    set(ARG_DEVICES ${SHUFFLENET_DEVICES})
    if(ARG_NETWORK IN_LIST SHUFFLENET_COMPARISON_NAMES)
      set(ARG_DEVICES "")
    endif()
  endif()
  if(ARG_DEVICES AND ARG_NETWORK IN_LIST SHUFFLENET_COMPARISON_NAMES)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): DEVICES ${ARG_DEVICES}: expected none for the comparison network ${ARG_NETWORK}")
  endif()
  if(ARG_DEVICES AND Halide_VERSION VERSION_GREATER_EQUAL 15)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): DEVICES: expected Halide 14, whose launches the runtime knows, found ${Halide_VERSION}")
  endif()
  foreach(device ${ARG_DEVICES})
    if(NOT device IN_LIST SHUFFLENET_ALL_DEVICES)
      message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): DEVICES ${device}: expected some of ${SHUFFLENET_ALL_DEVICES}")
    endif()
  endforeach()
  list(LENGTH ARG_INPUT sizes)
  if(NOT sizes EQUAL 2)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): INPUT: expected height and width")
  endif()
  list(GET ARG_INPUT 0 height)
  list(GET ARG_INPUT 1 width)
  _shufflenet_check_arguments("${ARG_NAME}" "${ARG_NETWORK}" "${height}" "${width}" "${ARG_CLASSES}" "${ARG_TARGETS}")

  set(name "${ARG_NAME}")
  set(dir "${CMAKE_CURRENT_BINARY_DIR}/${name}")
  foreach(path SHUFFLENET_ROOT dir ARG_WEIGHTS ARG_METADATA ARG_TUNED)
    _shufflenet_check_path("${${path}}")
  endforeach()
  file(MAKE_DIRECTORY "${dir}/kernels" "${dir}/include")

  set(flags "")
  if(ARG_REFERENCE)
    set(flags REFERENCE)
  endif()
  set(tuned_model ${name})
  if(ARG_WITHOUT)
    list(APPEND flags WITHOUT ${ARG_WITHOUT})
    set(tuned_model ${ARG_NETWORK})
  endif()
  set(tuned_folder "${SHUFFLENET_ROOT}/schedules/tuned")
  if(DEFINED ARG_TUNED)
    get_filename_component(tuned_folder "${ARG_TUNED}" ABSOLUTE)
  endif()
  set(tuned_files "")
  _shufflenet_kernels(kernels ${ARG_NETWORK})
  set(objects "")
  set(kernel_declarations "")
  set(kernel_tables "")
  set(step_tables "")
  # Dispatch goes by the table's order, so the order is ours, not the caller's.
  foreach(isa ${SHUFFLENET_ALL_TARGETS})
    if(NOT isa IN_LIST ARG_TARGETS)
      continue()
    endif()
    _shufflenet_tuned(tuned "${tuned_folder}" ${isa} ${tuned_model} ${ARG_NETWORK} ${height} ${width})
    list(APPEND tuned_files ${tuned})
    _shufflenet_batches(batches "${tuned}" "")
    set(isa_objects "")
    set(steps "")
    foreach(line ${kernels})
      _shufflenet_generate(object "${dir}/kernels" ${isa} "${line}" ${flags} NAME ${name} NETWORK ${ARG_NETWORK}
        HEIGHT ${height} WIDTH ${width} TUNED "${tuned}")
      list(APPEND isa_objects "${object}")
      string(REGEX MATCH "^[^|]*" kernel "${line}")
      set(type BRANCH)
      if(kernel STREQUAL "stem")
        set(type STEM)
      elseif(kernel MATCHES "^conv5")
        set(type CONV5)
      elseif(kernel STREQUAL "fc")
        set(type FC)
      elseif(kernel MATCHES "^step")
        set(type STEP)
        list(APPEND steps ${name}_${isa}_${kernel})
      endif()
      string(APPEND kernel_declarations "${type}(${name}_${isa}_${kernel})\n")
    endforeach()
    set(object "${dir}/${name}_${isa}.o")
    shufflenet_rename_halide(OUTPUT "${object}" INPUTS ${isa_objects})
    list(APPEND objects "${object}")
    if(steps)
      list(JOIN steps ", " steps)
      string(APPEND step_tables "static const shufflenet_step_fn ${name}_${isa}_steps[] = {${steps}};\n")
    endif()
    _shufflenet_kernel_table(table ${name} ${ARG_NETWORK} ${isa})
    string(APPEND kernel_tables "${table}")
  endforeach()

  _shufflenet_device_kernels(kernels)
  set(device_tables "")
  foreach(device ${ARG_DEVICES})
    _shufflenet_tuned(tuned "${tuned_folder}" ${device} ${name} ${ARG_NETWORK} ${height} ${width})
    list(APPEND tuned_files ${tuned})
    _shufflenet_batches(batches "${tuned}" "${kernels}")
    set(device_objects "")
    foreach(batch 1 ${batches})
      foreach(line ${kernels})
        string(REGEX MATCH "^[^|]*" kernel "${line}")
        set(variant ${kernel})
        if(batch GREATER 1)
          if(NOT kernel IN_LIST batches_${batch})
            continue()
          endif()
          string(APPEND variant "_from${batch}")
        endif()
        string(REGEX MATCH "[|].*" generator "${line}")
        _shufflenet_generate(object "${dir}/kernels" ${device} "${variant}${generator} batch=${batch}" NAME ${name}
          NETWORK ${ARG_NETWORK} HEIGHT ${height} WIDTH ${width} TUNED "${tuned}" TUNED_AS ${kernel})
        list(APPEND device_objects "${object}")
        set(type CONV5)
        if(kernel STREQUAL "stem" OR kernel MATCHES "_project$")
          set(type STEP)
        elseif(kernel STREQUAL "fc")
          set(type FC)
        endif()
        set(symbol_${kernel} ${name}_${device}_${variant})
        string(APPEND kernel_declarations "${type}(${symbol_${kernel}})\n")
      endforeach()
      _shufflenet_device_table(table ${device} ${batch})
      string(APPEND device_tables "${table}")
    endforeach()
    set(object "${dir}/${name}_${device}.o")
    shufflenet_rename_halide(OUTPUT "${object}" INPUTS ${device_objects})
    list(APPEND objects "${object}")
  endforeach()
  if(DEFINED ARG_TUNED AND NOT tuned_files)
    message(FATAL_ERROR "shufflenet_add_model(${name}): TUNED ${tuned_folder}: no file <target>/${name}.json for ${ARG_NETWORK} at ${height} ${width} and its targets or devices")
  endif()
  if(NOT CMAKE_CXX_COMPILE_OBJECT)
    message(FATAL_ERROR "shufflenet_add_model(${ARG_NAME}): C++ is not enabled in this folder: project(... LANGUAGES C CXX), or enable_language(CXX), before it")
  endif()
  set(device_kernels "nullptr, 0")
  set(with_devices 0)
  if(device_tables)
    set(device_kernels "device_kernels, static_cast<int>(sizeof device_kernels / sizeof device_kernels[0])")
    set(with_devices 1)
    set(device_tables "static const shufflenet_device_kernels device_kernels[] = {\n${device_tables}};\n")
  endif()

  _shufflenet_embed(embedded)
  string(TOUPPER "${name}" upper_name)
  configure_file("${SHUFFLENET_ROOT}/cmake/model.cc.in" "${dir}/${name}.cc" @ONLY)
  # Twice configured: what only the networks' tables know is filled in at build time.
  set(arena_bytes "@arena_bytes@")
  set(header "${dir}/include/${name}.h")
  configure_file("${SHUFFLENET_ROOT}/cmake/model.h.in" "${dir}/${name}.h.in" @ONLY)
  add_custom_command(
    OUTPUT "${header}"
    COMMAND ShuffleNet::prepare header ${ARG_NETWORK} ${height} ${width} "${dir}/${name}.h.in" "${header}"
    DEPENDS ShuffleNet::prepare "${dir}/${name}.h.in"
    COMMENT "Writing ${name}.h"
    VERBATIM)

  get_property(runtime_object TARGET shufflenet_halide_runtime PROPERTY SHUFFLENET_OBJECT)
  list(APPEND objects ${embedded})
  add_custom_target(${name}_kernels DEPENDS ${objects})
  add_library(${name} STATIC "${dir}/${name}.cc" "${header}" ${objects} "${runtime_object}"
    $<TARGET_OBJECTS:ShuffleNet::runtime> $<${with_devices}:$<TARGET_OBJECTS:ShuffleNet::device_runtime>>)
  set_source_files_properties(${objects} "${runtime_object}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  add_dependencies(${name} ${name}_kernels shufflenet_halide_runtime)
  target_include_directories(${name} PRIVATE "${SHUFFLENET_ROOT}" PUBLIC $<BUILD_INTERFACE:${dir}/include>
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

# Handles WEIGHTS, EMBED and METADATA of shufflenet_add_model(), in its scope: an object with what is embedded, and
# the variables that the templates use.
macro(_shufflenet_embed out)
  set(${out} "")
  set(weights_declaration "")
  set(weights_begin "nullptr")
  set(weights_end "nullptr")
  set(metadata_pointer "nullptr")
  set(weights_file "")
  set(assembly "")
  set(embedded_files "")
  if(ARG_WEIGHTS)
    get_filename_component(weights "${ARG_WEIGHTS}" ABSOLUTE)
    if(NOT EXISTS "${weights}" OR IS_DIRECTORY "${weights}")
      message(FATAL_ERROR "shufflenet_add_model(${name}): WEIGHTS ${weights}: no such file")
    endif()
    if(NOT ARG_METADATA)
      string(REGEX REPLACE "\\.[^.]*$" ".json" beside "${weights}")
      if(EXISTS "${beside}")
        set(ARG_METADATA "${beside}")
      endif()
    endif()
    if(embed)
      set(prepared "${dir}/${name}_weights.safetensors")
      string(APPEND assembly "    .balign 64\n    .globl ${name}_weights, ${name}_weights_end\n"
        "    .hidden ${name}_weights, ${name}_weights_end\n"
        "${name}_weights:\n    .incbin \"${name}_weights.safetensors\"\n${name}_weights_end:\n")
      string(APPEND weights_declaration "extern const unsigned char ${name}_weights[], ${name}_weights_end[];\n")
      set(weights_begin ${name}_weights)
      set(weights_end ${name}_weights_end)
      set(embedded_files "${prepared}")
      add_custom_command(
        OUTPUT "${prepared}"
        COMMAND ShuffleNet::prepare weights ${ARG_NETWORK} "${weights}" "${prepared}" ${ARG_EMBED}
        DEPENDS ShuffleNet::prepare "${weights}"
        COMMENT "Checking the weights of ${name}"
        VERBATIM)
    else()
      set(weights_file "${name}.safetensors")
      configure_file("${weights}" "${dir}/${weights_file}" COPYONLY)
    endif()
  elseif(embed)
    message(FATAL_ERROR "shufflenet_add_model(${name}): EMBED needs WEIGHTS")
  endif()
  if(ARG_METADATA)
    get_filename_component(metadata "${ARG_METADATA}" ABSOLUTE)
    if(NOT EXISTS "${metadata}" OR IS_DIRECTORY "${metadata}")
      message(FATAL_ERROR "shufflenet_add_model(${name}): METADATA ${metadata}: no such file")
    endif()
    configure_file("${metadata}" "${dir}/${name}_metadata.json" COPYONLY)
    string(APPEND assembly "    .globl ${name}_metadata\n    .hidden ${name}_metadata\n${name}_metadata:\n"
      "    .incbin \"${name}_metadata.json\"\n    .byte 0\n")
    string(APPEND weights_declaration "extern const char ${name}_metadata[];\n")
    set(metadata_pointer ${name}_metadata)
    list(APPEND embedded_files "${dir}/${name}_metadata.json")
  endif()
  if(assembly)
    file(CONFIGURE OUTPUT "${dir}/${name}_embedded.s"
      CONTENT "    .section .rodata\n${assembly}    .section .note.GNU-stack,\"\",@progbits\n" @ONLY)
    # By hand, because a project that has this one as a subdirectory need not have enabled CMake's ASM.
    add_custom_command(
      OUTPUT "${dir}/${name}_embedded.o"
      COMMAND "${CMAKE_CXX_COMPILER}" -c "${name}_embedded.s" -o "${name}_embedded.o"
      WORKING_DIRECTORY "${dir}"
      DEPENDS "${dir}/${name}_embedded.s" ${embedded_files}
      COMMENT "Embedding the weights of ${name}"
      VERBATIM)
    set(${out} "${dir}/${name}_embedded.o")
  endif()
endmacro()
