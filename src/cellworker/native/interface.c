/* Which interface the library has: a binding that reads another one refuses to call it. */
#include "cellworker.h"

#ifndef CW_INTERFACE
#error "compile with hatch_build.py, which names the interface"
#endif

const char *cw_interface(void) { return CW_INTERFACE; }
