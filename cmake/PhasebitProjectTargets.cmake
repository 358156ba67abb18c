# SPDX-License-Identifier: BSL-1.0
#
# Options of the executables of this tree (tests, benches, examples). They are never put on a target
# that a user links.
option(PHASEBIT_WERROR "Warnings are errors in the tests, benchmarks and examples of this tree" OFF)

add_library(phasebit_project_options INTERFACE)
target_compile_options(phasebit_project_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${PHASEBIT_WERROR}>:-Werror>)

set(CMAKE_CXX_EXTENSIONS OFF)

find_package(Threads REQUIRED)

# An executable that links every component.
function(phasebit_add_project_executable name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE phasebit::phasebit phasebit_project_options Threads::Threads)
  if(TARGET phasebit::hosted)
    target_link_libraries(${name} PRIVATE phasebit::hosted)
  endif()
endfunction()

# Finds a library, or ends with the command that installs it.
function(phasebit_find_or_explain package debian_package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "phasebit: ${package} was not found; on Debian and Ubuntu: "
      "apt-get install ${debian_package}")
  endif()
endfunction()
