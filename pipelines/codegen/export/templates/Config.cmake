# {{ mark }}
#   find_package({{ name }} CONFIG REQUIRED PATHS <this folder>)
#   target_link_libraries(program PRIVATE {{ name }}::{{ name }})   # or {{ name }}::static
cmake_minimum_required(VERSION 3.18)
include_guard()

add_library({{ name }}::{{ name }} SHARED IMPORTED)
set_target_properties({{ name }}::{{ name }} PROPERTIES
  IMPORTED_LOCATION "${CMAKE_CURRENT_LIST_DIR}/{{ shared }}"
  IMPORTED_SONAME "{{ shared }}")

add_library({{ name }}::static STATIC IMPORTED)
set_target_properties({{ name }}::static PROPERTIES
  IMPORTED_LOCATION "${CMAKE_CURRENT_LIST_DIR}/{{ static }}"
  IMPORTED_LINK_INTERFACE_LANGUAGES C
  INTERFACE_LINK_LIBRARIES "m;pthread")

foreach(_{{ name }}_library IN ITEMS {{ name }}::{{ name }} {{ name }}::static)
  set_target_properties(${_{{ name }}_library} PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}"
{% if weights_name %}
    INTERFACE_COMPILE_DEFINITIONS "{{ upper }}_WEIGHTS=\"${CMAKE_CURRENT_LIST_DIR}/{{ weights_name }}\""
{% else %}
    INTERFACE_COMPILE_DEFINITIONS "{{ upper }}_WEIGHTS=NULL"
{% endif %}
  )
endforeach()
unset(_{{ name }}_library)
