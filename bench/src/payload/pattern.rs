//! The pattern itself: `word = mix(connection, direction, index)`, a bijection, so that a word tells where it came from.
