/* Loops over LANES numbers at once, which compilers turn into vector instructions. */
#ifndef CW_LANES_H
#define CW_LANES_H

#define EACH_LANE _Pragma("GCC ivdep") for (int w = 0; w < LANES; w++)

enum { LANES = 8 };

#endif
