# Tests of presets with devices: models at small sizes, whose every kernel is executed, and two full networks. The rest of
# the project is tested by the preset of the CPU.
set(models
    "x0_5_33x47 shufflenet_v2_x0_5 33 47"
    "x0_5_97x64 shufflenet_v2_x0_5 97 64"
    "x0_5_225x225 shufflenet_v2_x0_5 225 225"
    "prime_32x32 test_prime 32 32"
    "prime_64x1 test_prime 64 1"
    "tiny_1x45 test_tiny 1 45"
    "tiny_1x1 test_tiny 1 1"
    "deep_77x53 test_deep 77 53")
if(NOT "opencl" IN_LIST SHUFFLENET_DEVICES)
  # Not executed: those that are cut in other ways than the full networks.
  list(FILTER models INCLUDE REGEX "^(prime_32x32|tiny_1x1) ")
endif()
foreach(model ${models})
  separate_arguments(arguments UNIX_COMMAND "${model}")
  add_test_model(${arguments} CLASSES 1000 OUTPUTS logits stage2 stage3 stage4 conv5)
endforeach()
foreach(device ${SHUFFLENET_DEVICES})
  configure_file(by_batch_32x32.json "${CMAKE_CURRENT_BINARY_DIR}/tuned/${device}.json" COPYONLY)
endforeach()
add_test_model(by_batch_32x32 test_prime 32 32 CLASSES 1000 TUNED "${CMAKE_CURRENT_BINARY_DIR}/tuned")
set(all_models ${test_models} ${shufflenet_models})
configure_descriptors(test_models.h.in "${CMAKE_CURRENT_BINARY_DIR}/test_models.h" ${all_models})

# Without a driver, or with one that is not usable, if that is what this machine has; the libraries that are put in front
# make a machine of the other kinds.
add_unit_test(driver_test tiny_1x1 shufflenet_networks)
add_test(NAME driver/absent COMMAND driver_test --gtest_filter=Driver.IsAbsent)
set_tests_properties(driver/absent PROPERTIES SKIP_REGULAR_EXPRESSION "SKIPPED")

add_unit_test(device_test ${all_models} shufflenet_networks shufflenet_reference)
target_compile_options(device_test PRIVATE -O2)
add_test(NAME device_tuned_by_batch COMMAND device_test --gtest_filter=TunedByBatch.*)
foreach(device ${SHUFFLENET_DEVICES})
  # One process a model: a crash names its model.
  foreach(model ${all_models})
    add_test(NAME ${device}/${model} COMMAND device_test --gtest_filter=*/${model}_on_${device})
    if(device STREQUAL "cuda")
      set_tests_properties(${device}/${model} PROPERTIES SKIP_REGULAR_EXPRESSION "SKIPPED")
    endif()
  endforeach()
endforeach()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
if("opencl" IN_LIST SHUFFLENET_DEVICES)
  if(SHUFFLENET_CLI AND SHUFFLENET_IMAGE)
    add_test(NAME device_cli_test COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/device_cli_test.py"
      --shufflenet $<TARGET_FILE:shufflenet> --device opencl --compiled ${SHUFFLENET_DEVICES})
  endif()
  if(SHUFFLENET_BENCH)
    add_test(NAME bench_test COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/bench_test.py"
      --bin "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" --target opencl Devices)
  endif()
  add_unit_test(opencl_test ${all_models} shufflenet_networks shufflenet_reference)
  target_sources(opencl_test PRIVATE opencl_checks.cc)
  target_link_options(opencl_test PRIVATE LINKER:--wrap=dlsym)
  add_test(NAME opencl_test COMMAND opencl_test)
  add_test(NAME driver/no_platform COMMAND driver_test --gtest_filter=Driver.HasNoPlatform)
  set_tests_properties(driver/no_platform PROPERTIES ENVIRONMENT "OCL_ICD_VENDORS=/nonexistent")
endif()

if("opencl" IN_LIST SHUFFLENET_DEVICES)
  # PoCL keeps what it compiled; not in the user's home.
  get_property(tests DIRECTORY PROPERTY TESTS)
  set_property(TEST ${tests} APPEND PROPERTY ENVIRONMENT "POCL_CACHE_DIR=${PROJECT_BINARY_DIR}/pocl")
endif()

if("cuda" IN_LIST SHUFFLENET_DEVICES)
  foreach(fake fake_cuda fake_cuda_old)
    add_library(${fake} SHARED fake_cuda/fake_cuda.c)
    set_target_properties(${fake} PROPERTIES OUTPUT_NAME cuda SUFFIX .so.1
      LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/${fake}")
    target_link_libraries(${fake} PRIVATE Threads::Threads)
  endforeach()
  target_compile_definitions(fake_cuda_old PRIVATE FAKE_CUDA_OLD)
  foreach(test cuda_test cuda_launches)
    add_unit_test(${test} ${all_models} shufflenet_networks shufflenet_reference fake_cuda)
  endforeach()
  add_test(NAME cuda_test COMMAND cuda_test)
  add_test(NAME driver/too_old COMMAND driver_test --gtest_filter=Driver.IsTooOld)
  set_tests_properties(driver/too_old PROPERTIES
    ENVIRONMENT "LD_LIBRARY_PATH=${CMAKE_CURRENT_BINARY_DIR}/fake_cuda_old")

  set(folders "")
  foreach(model ${test_models})
    list(APPEND folders "${CMAKE_CURRENT_BINARY_DIR}/${model}")
  endforeach()
  foreach(model ${shufflenet_models})
    list(APPEND folders "${PROJECT_BINARY_DIR}/models/${model}")
  endforeach()
  add_test(NAME ptx_test COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/ptx_test.py"
    --launches $<TARGET_FILE:cuda_launches> --output "${PROJECT_BINARY_DIR}/ptx.md" ${folders})
  set_tests_properties(ptx_test PROPERTIES SKIP_RETURN_CODE 77)
endif()
