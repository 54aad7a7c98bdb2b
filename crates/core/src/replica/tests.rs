//! Each rule of the replica, by events and what they lead to.
