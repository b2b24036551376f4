# Configures, builds and runs the project beside this file: cmake -D WAY=... -P run.cmake

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "exit status ${status}: ${command}")
  endif()
endfunction()

set(options
  -D CMAKE_CXX_COMPILER=${COMPILER}
  -D CMAKE_CXX_FLAGS=${FLAGS}
  -D hwy_DIR=${HIGHWAY_DIR}
  -D NATIVE_FLAG=${NATIVE_FLAG}
  -D WAY=${WAY})

if(WAY STREQUAL find_package)
  run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/prefix)
  file(READ ${SOURCE_DIR}/include/lapidary/version.h header)
  string(REGEX MATCH "VERSION_MAJOR ([0-9]+)" _ "${header}")
  set(version ${CMAKE_MATCH_1})
  string(REGEX MATCH "VERSION_MINOR ([0-9]+)" _ "${header}")
  string(APPEND version .${CMAKE_MATCH_1})
  list(APPEND options
    -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix
    -D LAPIDARY_VERSION=${version})
else()
  list(APPEND options -D LAPIDARY_SOURCE_DIR=${SOURCE_DIR})
endif()

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK_DIR}/build -G ${GENERATOR} ${options})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/user)
if(WAY STREQUAL find_package)
  run(${WORK_DIR}/build/engine_user)
endif()
