"""The dataset doctor: what is wrong with labelled frames, told before anything is trained on them."""
