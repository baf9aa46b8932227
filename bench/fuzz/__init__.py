"""Real files, damaged at random: what splitting must withstand."""
