"""From an image to the SMPL body, by part attention (after PARE, Kocabas et al., ICCV 2021)."""
