"""What any job needs: files, processes, interrupts, messages."""
