/* The version of the library's interface: a binding made for another one refuses to call it. */
#include "cellworker.h"

#ifndef CW_INTERFACE
#error "compile with hatch_build.py, which names the interface"
#endif

const char *cw_interface(void) { return CW_INTERFACE; }
