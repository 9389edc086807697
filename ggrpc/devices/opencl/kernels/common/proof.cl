// Proves that a driver can build and run anything at all.

kernel void twice(global int *numbers) {
    numbers[get_global_id(0)] *= 2;
}
