# SPDX-License-Identifier: BSL-1.0
#
# phasebit::<component> for every component, phasebit::freestanding for those that need no operating
# system, and phasebit::phasebit for all that need only the standard library.
include(${CMAKE_CURRENT_LIST_DIR}/components.cmake)

set(PHASEBIT_INCLUDE_DIR ${PROJECT_SOURCE_DIR}/include)

# One INTERFACE target: its headers, C++20 and what it links. Nothing else reaches the user.
function(phasebit_interface_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;LINKS")
  add_library(phasebit_${name} INTERFACE)
  add_library(phasebit::${name} ALIAS phasebit_${name})
  set_target_properties(phasebit_${name} PROPERTIES EXPORT_NAME ${name})
  target_sources(phasebit_${name} INTERFACE
    FILE_SET HEADERS BASE_DIRS ${PHASEBIT_INCLUDE_DIR} FILES ${arg_HEADERS})
  target_compile_features(phasebit_${name} INTERFACE cxx_std_20)
  target_link_libraries(phasebit_${name} INTERFACE ${arg_LINKS})
endfunction()

set(PHASEBIT_COMPONENTS "")           # all; hosted only where its libraries are found
set(PHASEBIT_PACKAGED_COMPONENTS "")  # the same without hosted
set(freestanding_components "")
set(plain_components "")

foreach(row IN LISTS PHASEBIT_COMPONENT_TABLE)
  string(REGEX MATCH "^([a-z_]+) *\\| *([0-9]+) *\\| *(yes|no) *\\| *([a-z_/]+) *\\| *(.*)$" matched "${row}")
  set(component ${CMAKE_MATCH_1})
  set(freestanding ${CMAKE_MATCH_3})
  set(folder ${CMAKE_MATCH_4})
  string(REGEX MATCHALL "[a-z_]+" needs "${CMAKE_MATCH_5}")
  if(NOT matched)
    message(FATAL_ERROR "phasebit: cmake/components.cmake has a row that cannot be read: ${row}")
  endif()

  file(GLOB_RECURSE headers CONFIGURE_DEPENDS
    ${PHASEBIT_INCLUDE_DIR}/phasebit/${folder}/*.hpp)
  file(GLOB front CONFIGURE_DEPENDS ${PHASEBIT_INCLUDE_DIR}/phasebit/${folder}.hpp)
  list(APPEND headers ${front})
  if(component STREQUAL "core")
    foreach(h config version)
      list(APPEND headers ${PHASEBIT_INCLUDE_DIR}/phasebit/${h}.hpp)
    endforeach()
  endif()

  list(TRANSFORM needs PREPEND phasebit_ OUTPUT_VARIABLE links)

  if(component STREQUAL "hosted")
    find_package(fmt QUIET)
    find_package(Boost QUIET)
    if(NOT TARGET fmt::fmt OR NOT TARGET Boost::headers)
      message(STATUS "phasebit: no phasebit::hosted (it needs libfmt-dev and libboost-dev)")
      continue()
    endif()
    list(APPEND links fmt::fmt Boost::headers)
  else()
    list(APPEND PHASEBIT_PACKAGED_COMPONENTS ${component})
    list(APPEND plain_components phasebit_${component})
    if(freestanding)
      list(APPEND freestanding_components phasebit_${component})
    endif()
  endif()
  phasebit_interface_library(${component} HEADERS ${headers} LINKS ${links})
  list(APPEND PHASEBIT_COMPONENTS ${component})
endforeach()

phasebit_interface_library(freestanding
  HEADERS ${PHASEBIT_INCLUDE_DIR}/phasebit/freestanding.hpp LINKS ${freestanding_components})
phasebit_interface_library(phasebit
  HEADERS ${PHASEBIT_INCLUDE_DIR}/phasebit/phasebit.hpp LINKS phasebit_freestanding ${plain_components})
list(APPEND PHASEBIT_PACKAGED_COMPONENTS freestanding phasebit)
